package component

// buildSystems are what the build-systems of sbx.yaml stand for. What a
// component says takes the place of what is here, step by step.
func buildSystems() map[string]map[string][]string {
	all := map[string]map[string][]string{
		"manual": {},
		"autotools": {
			"configure": {
				`[ -e configure ] || NOCONFIGURE=1 autoreconf -ivf`,
				`./configure --prefix="$PREFIX" --sysconfdir=/etc --localstatedir=/var`,
			},
			"build":   {"make"},
			"install": {`make DESTDIR="$DESTDIR" install`},
		},
		"make": {
			"build":   {`make PREFIX="$PREFIX"`},
			"install": {`make DESTDIR="$DESTDIR" PREFIX="$PREFIX" install`},
		},
		"cmake": {
			"configure": {`cmake -S . -B _build -DCMAKE_INSTALL_PREFIX="$PREFIX" -DCMAKE_BUILD_TYPE=Release`},
			"build":     {"make -C _build"},
			"install":   {`make -C _build DESTDIR="$DESTDIR" install`},
		},
		"meson": {
			"configure": {`meson setup _build --prefix="$PREFIX" --sysconfdir=/etc --localstatedir=/var --buildtype=release --wrap-mode=nodownload`},
			"build":     {"ninja -C _build"},
			"install":   {`DESTDIR="$DESTDIR" meson install -C _build --no-rebuild`},
		},
		// What it needs must be in vendor/, and .cargo/config.toml must say so:
		// 'cargo vendor' does both.
		"cargo": {
			"build":   {"CARGO_HOME=/tmp/cargo cargo build --release --offline --frozen"},
			"install": {`CARGO_HOME=/tmp/cargo cargo install --offline --frozen --no-track --path . --root "$DESTDIR$PREFIX"`},
		},
		// What it needs must be in vendor/: 'go mod vendor'.
		"go": {
			"build":   {"mkdir -p _bin && GOFLAGS=-mod=vendor GOPROXY=off GOTOOLCHAIN=local GOCACHE=/tmp/go-cache go build -trimpath -buildvcs=false -o _bin/ ./..."},
			"install": {`install -D -t "$DESTDIR$PREFIX/bin" _bin/*`},
		},
		"python": {
			"build":   {"python3 -m pip wheel --no-index --no-deps --no-build-isolation --no-cache-dir -w _dist ."},
			"install": {`DEB_PYTHON_INSTALL_LAYOUT=deb python3 -m pip install --no-index --no-deps --no-cache-dir --no-compile --no-warn-script-location --root "$DESTDIR" --prefix "$PREFIX" _dist/*.whl`},
		},
		"perl": {
			"configure": {`perl Makefile.PL INSTALLDIRS=vendor PREFIX="$PREFIX"`},
			"build":     {"make"},
			"install":   {`make DESTDIR="$DESTDIR" pure_install`},
		},
	}
	for name, steps := range all {
		if name != "manual" && name != "python" && name != "perl" {
			steps["strip"] = []string{stripCommand}
		}
	}
	return all
}

// stripCommand moves debugging information to PREFIX/lib/debug.
const stripCommand = `find "$DESTDIR" -type f \( -perm -111 -o -name '*.so*' \) -exec sh -ec '
  [ "$(head -c 4 "$1" | od -An -tx1 | tr -d " \n")" = 7f454c46 ] || exit 0
  debug=$DESTDIR$PREFIX/lib/debug/$(basename "$1")
  mkdir -p "$(dirname "$debug")"
  objcopy --only-keep-debug "$1" "$debug"
  chmod 644 "$debug"
  strip --remove-section=.comment --remove-section=.note --strip-unneeded "$1"
  objcopy --add-gnu-debuglink="$debug" "$1"' - {} \;
`
