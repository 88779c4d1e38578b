package cache_test

import (
	"testing"

	"github.com/sbx-action/sbx-action/cache/cachetest"
)

func TestSuite(t *testing.T) {
	cachetest.Test(t, func(t *testing.T) cachetest.Store { return newStore(t) })
}
