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
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	# Somebody else may install something just now, and mirrors have bad moments.
	apt() { apt-get -qq -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@" >"$log" 2>&1; }
	install() { apt install -y ${NEED_ONLY:+--no-install-recommends} "$@"; }
	install $missing && exit 0
	# The lists may be missing, or old, and name what the mirror has no longer. For
	# their own lock apt-get does not wait.
	for pause in 5 15 45 0; do
		if apt update; then break; fi
		sleep $pause
	done
	install $missing && exit 0
	failed=
	for package in $missing; do
		install "$package" || {
			failed="$failed $package"
			tail -n 5 "$log" | sed "s/^/$package: /" >&2
		}
	done
	[ -n "$failed" ] || exit 0
	missing=$failed
fi
echo "missing:$missing. On Debian: 'apt-get install$missing' as root; elsewhere install what provides them, then try again." >&2
exit 1
