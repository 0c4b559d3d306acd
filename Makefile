# The few commands of this project. The tests and the demo need root, on Debian 12 or 13: scripts/setup installs what they lack.
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DESTDIR ?=
SYSCONFDIR ?= /etc
CARGO ?= cargo

TARGET := $(or $(CARGO_TARGET_DIR),target)
# Where `install` takes the programs from: `make -o all install BUILT=DIR` installs what is there, and builds nothing.
BUILT ?= $(TARGET)/release
PAGES1 := $(wildcard man/*.1)
PAGES5 := $(wildcard man/*.5)
PAGES8 := $(wildcard man/*.8)
AT_PREFIX := sed -e 's|/usr/sbin/|$(PREFIX)/sbin/|g'

.PHONY: all static test lint demo soak fuzz bench bench-dns install clean

all:
	$(CARGO) build --release --locked --workspace

# muster-in for an initramfs: one file that needs no other, not even a C library. glibc's own archive (libc6-dev) is linked in.
# The target is named so that the flags do not reach build scripts.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
static:
	RUSTFLAGS="$(RUSTFLAGS) -C target-feature=+crt-static" $(CARGO) build --release --locked --bin muster-in --target $(HOST)
	install -D -s -m 755 $(TARGET)/$(HOST)/release/muster-in $(TARGET)/static/muster-in
	@if readelf -lW $(TARGET)/static/muster-in | grep -q INTERP; then echo "$(TARGET)/static/muster-in is not static" >&2; exit 1; fi
	@echo "$(TARGET)/static/muster-in is for your initramfs: see muster-in(8)"

test:
	scripts/setup
	$(CARGO) test --locked

lint:
	shellcheck scripts/* .ci/run packaging/completion/muster.bash
	$(if $(PAGES1)$(PAGES5)$(PAGES8),mandoc -T lint -W warning $(PAGES1) $(PAGES5) $(PAGES8))
	bash -n packaging/completion/muster.bash

# Everything side by side, in network namespaces: writes bench/RESULTS.md. CASES="pattern ..." runs a part.
CASES ?=
bench:
	scripts/setup-bench
	$(CARGO) build --release --locked --bins --example bare-sender
	python3 bench/run.py $(foreach case,$(CASES),'$(case)')

# Names asked for beside a storm, 50,000 a second: says what was answered and whether a machine waited.
bench-dns:
	scripts/setup
	$(CARGO) build --release --locked --bins
	python3 bench/dns.py

demo:
	scripts/demo

# For an hour, or SOAK_SECONDS.
soak:
	scripts/soak

# Each target for SECONDS. TARGETS="dhcp dns" runs some of them. What is found on the way stays in fuzz/target; the corpus is small by choice.
SECONDS ?= 60
TARGETS ?= dhcp tftp dns report control journal config names server
FUZZ := $(CARGO) +nightly fuzz
# Without a sanitizer, which costs time and has nothing to find: what is fuzzed has no `unsafe`.
UNSANITIZED := --sanitizer none
fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { \
		echo "make fuzz needs cargo-fuzz and a nightly compiler: cargo install cargo-fuzz --locked; rustup toolchain install nightly" >&2; exit 1; }
	$(FUZZ) build $(UNSANITIZED)
	for target in $(TARGETS); do \
		mkdir -p fuzz/target/corpus/$$target; \
		$(FUZZ) run $(UNSANITIZED) $$target fuzz/target/corpus/$$target fuzz/corpus/$$target -- -max_total_time=$(SECONDS) -max_len=4096 -timeout=10 || exit 1; \
	done

# The packaging files say /usr/sbin; they are installed with the prefix in its place. A default file that is there is kept.
install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5 $(DESTDIR)$(PREFIX)/share/man/man8
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions
	install -d $(DESTDIR)$(PREFIX)/share/doc/muster/examples $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -d $(DESTDIR)$(PREFIX)/lib/sysusers.d
	install -d $(DESTDIR)$(SYSCONFDIR)/muster $(DESTDIR)$(SYSCONFDIR)/init.d $(DESTDIR)$(SYSCONFDIR)/default
	install -m 755 $(BUILT)/musterd $(DESTDIR)$(PREFIX)/sbin/musterd
	install -m 755 $(BUILT)/muster-in $(DESTDIR)$(PREFIX)/sbin/muster-in
	install -m 755 $(BUILT)/muster $(DESTDIR)$(PREFIX)/bin/muster
	install -m 755 $(BUILT)/muster-storm $(DESTDIR)$(PREFIX)/bin/muster-storm
	install -D -m 644 $(BUILT)/libnss_muster.so $(DESTDIR)$(LIBDIR)/libnss_muster.so.2
	install -m 644 packaging/completion/muster.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/muster
	install -m 644 packaging/completion/_muster $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_muster
	install -m 644 $(PAGES1) $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 $(PAGES5) $(DESTDIR)$(PREFIX)/share/man/man5/
	install -m 644 $(PAGES8) $(DESTDIR)$(PREFIX)/share/man/man8/
	install -m 644 README.md LICENSE-MIT LICENSE-APACHE $(DESTDIR)$(PREFIX)/share/doc/muster/
	install -m 644 packaging/muster.toml.example $(DESTDIR)$(PREFIX)/share/doc/muster/examples/muster.toml
	$(AT_PREFIX) packaging/muster.init >$(DESTDIR)$(SYSCONFDIR)/init.d/muster
	chmod 755 $(DESTDIR)$(SYSCONFDIR)/init.d/muster
	install -m 644 packaging/sysusers.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/muster.conf
	$(AT_PREFIX) packaging/muster.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/muster.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/muster.service
	test -e $(DESTDIR)$(SYSCONFDIR)/default/muster || install -m 644 packaging/muster.default $(DESTDIR)$(SYSCONFDIR)/default/muster

clean:
	$(CARGO) clean
