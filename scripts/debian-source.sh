#!/bin/sh
# Usage: scripts/debian-source.sh PACKAGE DIRECTORY
#
# Fetches Debian's source package PACKAGE and unpacks it into DIRECTORY, as its
# authors published it, without Debian's patches. It does so as any
# user and without changing the machine's apt configuration: it asks for the
# sources at the places where the machine gets its binary packages. Prints the
# unpacked directory. What is there already is not fetched again; what is in the
# directory SBX_TEST_SOURCES, if that is set, neither.
set -eu
package=$1 dest=$2
mkdir -p "$dest"
dest=$(cd "$dest" && pwd)
if [ -f "$dest/$package.dir" ]; then
	cat "$dest/$package.dir"
	exit 0
fi
for tool in apt-get dpkg-source; do
	command -v $tool >/dev/null || {
		echo "$0: $tool is missing: this needs Debian or a relative of it, with the package dpkg-dev ('apt-get install dpkg-dev')" >&2
		exit 1
	}
done
kept=${SBX_TEST_SOURCES:-$dest}
apt=$kept/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
exec 9>"$kept/lock" # others may fetch into the same directory
flock 9
apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u |
	sed 's/^/deb-src /' >"$apt/all.list"
[ -s "$apt/all.list" ] || {
	echo "$0: apt knows no package lists yet: run 'apt-get update' as root first" >&2
	exit 1
}
cat >"$apt/apt.conf" <<EOF
Dir::Etc::SourceList "$apt/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "$apt/lists";
Dir::Cache "$apt/cache";
Dir::Cache::Archives "$apt/cache/archives";
APT::Sandbox::User "$(id -un)";
Acquire::Retries "3";
EOF
export APT_CONFIG="$apt/apt.conf"

# fetch uses the sources of sources.list. Repositories without sources are no
# reason to stop, as long as one has the package.
fetch() {
	apt-get update -qq >>"$apt/log" 2>&1 || true
	download
}
download() { (cd "$kept" && apt-get source -qq --download-only "$package" >>"$apt/log" 2>&1); }

# The lists that the package before needed may have this one, too. All at once find
# the newest version. Where one repository lists what it cannot deliver, one that
# has it is found by asking each alone.
if ! { cmp -s "$apt/all.list" "$apt/sources.list" && download; }; then
	found=
	for pause in 0 10 30; do # mirrors have bad moments
		sleep $pause
		cp "$apt/all.list" "$apt/sources.list"
		if fetch; then found=yes; fi
		while [ -z "$found" ] && read -r line; do
			echo "$line" >"$apt/sources.list"
			if fetch; then found=yes; fi
		done <"$apt/all.list"
		[ -z "$found" ] || break
	done
	[ -n "$found" ] || {
		tail -n 40 "$apt/log" >&2
		echo "$0: apt-get cannot fetch the source of $package" >&2
		exit 1
	}
fi
[ "$kept" = "$dest" ] || cp "$kept/$package"_* "$dest"
dsc=$(ls "$dest/$package"_*.dsc | tail -n 1)
rm -rf "$dest/$package"
dpkg-source --no-check --skip-patches -x "$dsc" "$dest/$package" >>"$apt/log" 2>&1 || {
	cat "$apt/log" >&2
	exit 1
}
echo "$dest/$package" >"$dest/$package.dir"
echo "$dest/$package"
