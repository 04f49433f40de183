# SPDX-License-Identifier: Apache-2.0
#
# make build   the static binaries bin/dkms and bin/dkms-hub
# make unit    the inner loop: tests of internal/ and cmd/ (under a minute)
# make test    everything: packages, lint, lab, all tests
# make race    all tests, and the dkms that they run, with the race detector; needs
#              gcc, and an hour or two. RACE names the packages
# make demo    build and install a real module for two Debian kernels in a scratch root
# make bench   dkms against depmod, bare make and another dkms: the table of
#              docs/performance.md; what it can be told is in test/bench/doc.go
# make corpus-confined   builds the corpus confined and unconfined, and compares
# make bench-go   Go benchmarks
# make diagnosis-logs   the failing logs of test/diagnosis anew; takes an hour
# make screens docs/screens.md and docs/pictures anew: what a terminal and a browser
#              show; needs tmux
# make fuzz    each fuzz test for FUZZTIME=30s, one after another; FUZZ=Name for
#              those that match; docs/fuzzing.md
# make crash   kills dkms at each of its changes to the disk, and has each of
#              them fail: the numbers of docs/crash-safety.md (make test has a
#              sample of them)
# make pgo     cmd/dkms/default.pgo anew: the profile by which the compiler
#              optimizes (go.dev/doc/pgo), of making module indexes
# make vm MODULE=DIR   boot a kernel that has the module installed, and load it;
#              CONTRIBUTING.md tells what else it takes
# make man     the manual pages, in dist/
# make packages  dkms-go as .deb and .rpm, in dist/
# make install   all files to DESTDIR, for distribution packagers; FAMILY is
#                deb, rpm, arch, or none (the default)
#
# deps and lab need root on Debian 12; build needs only Go.

SHELL := /bin/bash
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin
export CGO_ENABLED := 0

# The kernels of the lab. When the archive no longer has one of them, the
# newest of the same series is taken (scripts/lab.sh).
export KERNEL_OLD ?= 6.1.0-56-amd64
export KERNEL_NEW ?= 6.12.117+deb12-amd64
export LAB ?= $(CURDIR)/.lab
export FUZZ FUZZTIME FUZZJOBS FUZZLOG

VERSION ?= $(or $(shell git -c safe.directory='*' describe --tags --dirty 2>/dev/null),0.1.0-dev)
GOBUILD := go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'
GOTEST  := go test -timeout 30m

FAMILY ?= none

.PHONY: all build deps lab demo test unit race bench bench-go corpus-confined diagnosis-logs screens crash fuzz pgo vm man packages install lint clean distclean

all: build

build:
	@mkdir -p bin
	$(GOBUILD) -o bin/dkms ./cmd/dkms
	$(GOBUILD) -o bin/dkms-hub ./cmd/dkms-hub

deps:
	@scripts/deps.sh

lab: deps
	@scripts/lab.sh

demo:
	@scripts/demo.sh

test: deps
	@$(MAKE) --no-print-directory lint lab packages
	@scripts/warm.sh
	$(GOTEST) ./...

unit:
	$(GOTEST) ./internal/... ./cmd/...

vm: build
	@VM_MODULE='$(abspath $(MODULE))' VM_KERNEL='$(KERNEL)' VM_SECURE_BOOT='$(SECURE_BOOT)' VM_RUN="$$RUN" \
	  go test -v -count=1 -run '^TestByHand$$' ./test/vm

# The binary is static, to run in roots of any kind; so are the tests, since some run
# themselves there. A race in either ends it with code 66. test/bench measures time;
# test/packages, upgrade, switch, ship, doctor and docs run what is in dist/. The race
# detector takes more memory than TestConfinedLimits lets it have, and speaks without
# /proc, in TestUnameAnybody.
RACE ?= $(shell go list ./... | grep -vE '/test/(bench|packages|upgrade|switch|ship|guides|doctor|docs)$$')
race: export CGO_ENABLED := 1
race: export GORACE := halt_on_error=1 exitcode=66
race: export DKMS_BINARY := $(CURDIR)/bin/race/dkms
race:
	@mkdir -p bin/race
	go build -race -trimpath -buildvcs=false -ldflags '-linkmode external -extldflags -static -X main.version=$(VERSION)' -o $(DKMS_BINARY) ./cmd/dkms
	go test -race -ldflags '-linkmode external -extldflags -static' -p 1 -count=1 -timeout 2h -skip '^(TestConfinedLimits|TestUnameAnybody)$$' $(RACE)

man:
	@mkdir -p dist
	scdoc <man/dkms.8.scd >dist/dkms.8
	scdoc <man/dkms.conf.5.scd >dist/dkms.conf.5

packages: build man
	@packaging/packages.sh '$(VERSION)'

install:
	@packaging/install.sh '$(FAMILY)' '$(DESTDIR)'

bench: build
	set -o pipefail; DKMS_BENCH=yes go test -v -count=1 -timeout 6h -run '^TestBench$$' ./test/bench | grep -vE '^ *(=== |--- PASS)'

corpus-confined: build
	DKMS_CORPUS_CONFINED=yes $(GOTEST) -v -count=1 -timeout 3h -run '^TestConfinedIsTheSame$$' ./test/corpus

# DKMS_DIAGNOSIS_CLANG may name a directory with the unpacked packages of LLVM;
# DKMS_DIAGNOSIS_CASES the modules to build, by default all.
diagnosis-logs: build
	DKMS_DIAGNOSIS=regenerate $(GOTEST) -v -count=1 -timeout 3h -run '^TestRegenerate$$' ./test/diagnosis

screens: build
	@scripts/screens.sh
	@mkdir -p docs/pictures
	DKMS_SCREENSHOTS=$(CURDIR)/docs/pictures go test -count=1 -run '^TestPages$$' ./test/hub

bench-go:
	$(GOTEST) -run '^$$' -bench . -benchmem ./...

fuzz:
	@nice -n 19 scripts/fuzz.sh

crash: build
	set -o pipefail; env -u CI go test -v -count=1 -timeout 6h ./test/crash | grep -vE '^ *(=== |--- PASS)'

pgo:
	@tmp=$$(mktemp -d) && \
	  go test -run '^$$' -bench 'Cold$$' -benchtime 3x -cpuprofile $$tmp/cold -o $$tmp/test ./internal/modindex && \
	  go test -run '^$$' -bench 'Update$$' -benchtime 30x -cpuprofile $$tmp/update -o $$tmp/test ./internal/modindex && \
	  go tool pprof -proto $$tmp/cold $$tmp/update >cmd/dkms/default.pgo && rm -r $$tmp

lint:
	@out=$$(gofmt -l $$(find . -name '*.go' -not -path './.lab/*')); \
	  if [ -n "$$out" ]; then echo "gofmt: not formatted:"; echo "$$out"; exit 1; fi
	go vet ./...
	shellcheck -x -P scripts scripts/*.sh .ci/run packaging/*.sh packaging/deb/* packaging/rpm/*

clean:
	rm -rf bin dist

# distclean also drops the downloaded lab.
distclean: clean
	@scripts/lab.sh clean
