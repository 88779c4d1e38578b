#!/bin/sh
# Usage: scripts/failed.sh LOG
#
# Prints what failed in the output of 'go test' or of a test program, for who sees
# the end of a long log only: of each failed test its name, and the beginning and
# the end of what it said; of each race and panic the beginning; and last, all
# names once more.
awk '
	function flush(  i) {
		for (i = 1; i <= n; i++) {
			if (i <= head || i > n - tail) print block[i]
			else if (i == head + 1) print "        [" n - head - tail " lines]"
		}
		n = 0
	}
	function begin(h, t) { flush(); head = h; tail = t; on = 1 }
	/^(ok|\?) +\t/ { next }
	/^ *--- FAIL/ { begin(3, 22); names[++named] = $0 }
	/^ *--- (PASS|SKIP)/ || /^=== / { flush(); on = 0 }
	/^WARNING: DATA RACE/ { begin(30, 0) }
	/^(panic|fatal error|SIG[A-Z]*):/ { begin(40, 0); names[++named] = $0 }
	/^FAIL\t/ { flush(); on = 0; names[++named] = $0 }
	on { block[++n] = $0 }
	END {
		flush()
		for (i = 1; i <= named && i <= 20; i++) print names[i]
	}' "$1" | tail -n 70
