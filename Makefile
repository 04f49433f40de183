# SPDX-License-Identifier: Apache-2.0
#
# make build   the static binary bin/dkms
# make unit    the inner loop: tests of internal/ and cmd/ (under a minute)
# make test    everything: packages, lint, lab, all tests
# make demo    build and install a real module for two Debian kernels in a scratch root
# make bench   dkms against depmod, bare make and another dkms: the table of
#              docs/performance.md; what it can be told is in test/bench/doc.go
# make corpus-confined   builds the corpus confined and unconfined, and compares
# make bench-go   Go benchmarks
# make pgo     cmd/dkms/default.pgo anew: the profile by which the compiler
#              optimizes (go.dev/doc/pgo), of making module indexes
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

VERSION ?= $(or $(shell git -c safe.directory='*' describe --tags --dirty 2>/dev/null),0.1.0-dev)
GOBUILD := go build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'
GOTEST  := go test -timeout 30m

FAMILY ?= none

.PHONY: all build deps lab demo test unit bench bench-go corpus-confined pgo man packages install lint clean distclean

all: build

build:
	@mkdir -p bin
	$(GOBUILD) -o bin/dkms ./cmd/dkms

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

bench-go:
	$(GOTEST) -run '^$$' -bench . -benchmem ./...

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
