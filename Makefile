# The few commands of this project. The tests and the demo need root, on Debian 12 or 13: scripts/setup installs what they lack.
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DESTDIR ?=
SYSCONFDIR ?= /etc
CARGO ?= cargo

TARGET := $(or $(CARGO_TARGET_DIR),target)
# Where `install` takes the programs from: `make -o all install BUILT=DIR` installs what is there, and builds nothing. An archive of
# `make tarball` has them in bin.
BUILT ?= $(if $(wildcard bin/musterd),bin,$(TARGET)/release)
MUSTER_IN ?= $(BUILT)/muster-in
# Where the folders of a system are elsewhere.
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
DOCDIR ?= $(PREFIX)/share/doc/muster
INITDIR ?= $(SYSCONFDIR)/init.d
# The script in INITDIR: init (Linux Standard Base) or openrc.
INIT ?= init
# Flags for the daemon. On RPM systems: /etc/sysconfig.
DEFAULTDIR ?= $(SYSCONFDIR)/$(if $(filter openrc,$(INIT)),conf.d,default)

PAGES1 := $(wildcard man/*.1)
PAGES5 := $(wildcard man/*.5)
PAGES8 := $(wildcard man/*.8)
AT_PREFIX := sed -e 's|/usr/sbin/|$(PREFIX)/sbin/|g'

.PHONY: all static test test-installed lint demo soak fuzz bench bench-dns install deb rpm tarball clean

all:
	$(if $(wildcard bin/musterd),,$(CARGO) build --release --locked --workspace)

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

# All of tests/packaged.rs, with the packages that users get.
test-installed:
	scripts/setup
	scripts/test-roots bookworm trixie bullseye sysv openrc node
	scripts/package deb
	scripts/package rpm
	scripts/package tarball
	MUSTER_PACKAGES=$(TARGET)/package $(CARGO) test --locked --test packaged -- --include-ignored

lint:
	shellcheck scripts/* .ci/run packaging/completion/muster.bash packaging/muster.init packaging/node/initramfs-tools/* packaging/node/dracut/*
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

# Packages, in target/package. They need no network once `cargo fetch` has been run.
deb rpm tarball:
	scripts/package $@

# The packaging files say /usr/sbin; they are installed with the prefix in its place. A default file that is there is kept.
DEST = $(DESTDIR)$(PREFIX)
install: all
	install -d $(DEST)/sbin $(DEST)/bin $(DEST)/share/man/man1 $(DEST)/share/man/man5 $(DEST)/share/man/man8
	install -d $(DESTDIR)$(SYSCONFDIR)/muster/test.d $(DESTDIR)$(INITDIR) $(DESTDIR)$(DEFAULTDIR)
	install -m 755 $(BUILT)/musterd $(DEST)/sbin/musterd
	install -m 755 $(MUSTER_IN) $(DEST)/sbin/muster-in
	install -m 755 $(BUILT)/muster $(DEST)/bin/muster
	install -m 755 $(BUILT)/muster-storm $(DEST)/bin/muster-storm
	install -D -m 755 $(BUILT)/libnss_muster.so $(DESTDIR)$(LIBDIR)/libnss_muster.so.2
	install -D -m 644 packaging/completion/muster.bash $(DEST)/share/bash-completion/completions/muster
	install -D -m 644 packaging/completion/_muster $(DESTDIR)$(ZSHDIR)/_muster
	install -m 644 $(PAGES1) $(DEST)/share/man/man1/
	install -m 644 $(PAGES5) $(DEST)/share/man/man5/
	install -m 644 $(PAGES8) $(DEST)/share/man/man8/
	install -d $(DESTDIR)$(DOCDIR)/examples
	install -m 644 README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE $(DESTDIR)$(DOCDIR)/
	install -m 644 packaging/muster.toml.example $(DESTDIR)$(DOCDIR)/examples/muster.toml
	$(AT_PREFIX) packaging/muster.$(INIT) >$(DESTDIR)$(INITDIR)/muster
	chmod 755 $(DESTDIR)$(INITDIR)/muster
	install -d $(DESTDIR)$(UNITDIR)
	$(AT_PREFIX) packaging/muster.service >$(DESTDIR)$(UNITDIR)/muster.service
	chmod 644 $(DESTDIR)$(UNITDIR)/muster.service
	install -D -m 644 packaging/muster.sysusers $(DESTDIR)$(SYSUSERSDIR)/muster.conf
	install -D -m 644 packaging/muster.tmpfiles $(DESTDIR)$(TMPFILESDIR)/muster.conf
	test -e $(DESTDIR)$(DEFAULTDIR)/muster || install -m 644 packaging/muster.default $(DESTDIR)$(DEFAULTDIR)/muster
	install -D -m 755 packaging/node/initramfs-tools/hook $(DEST)/share/initramfs-tools/hooks/muster
	install -D -m 755 packaging/node/initramfs-tools/premount $(DEST)/share/initramfs-tools/scripts/init-premount/muster
	install -D -m 755 packaging/node/initramfs-tools/bottom $(DEST)/share/initramfs-tools/scripts/init-bottom/muster
	install -d $(DEST)/lib/dracut/modules.d/90muster
	install -m 755 packaging/node/dracut/*.sh $(DEST)/lib/dracut/modules.d/90muster/

clean:
	$(CARGO) clean
