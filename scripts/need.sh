#!/bin/sh
# Usage: scripts/need.sh PROGRAM:PACKAGE…
#
# With NEED_ONLY=1 what they recommend is not installed.
#
# Sees to it that the programs are there: installs Debian's packages where we
# are root, and elsewhere says exactly what is missing.
missing=
for pair in "$@"; do
	program=${pair%%:*} package=${pair#*:}
	# A path is looked for as it is: for packages without a program.
	case $program in
	/*) [ -e "$program" ] || missing="$missing $package" ;;
	*) command -v "$program" >/dev/null || missing="$missing $package" ;;
	esac
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "installing$missing"
	export DEBIAN_FRONTEND=noninteractive
	options=${NEED_ONLY:+--no-install-recommends}
	apt-get install -y -qq $options $missing >/dev/null 2>&1 && exit 0
	apt-get update -qq >/dev/null 2>&1
	apt-get install -y -qq $options $missing >/dev/null && exit 0
fi
echo "missing:$missing. On Debian: 'apt-get install$missing' as root; elsewhere install what provides them, then try again." >&2
exit 1
