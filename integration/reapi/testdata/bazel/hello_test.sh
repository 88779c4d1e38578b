#!/bin/sh
[ "$(./hello)" = hello ] && [ "$(cat files/link)" = one ] && [ "$(cat files/sub/b)" = two ]
