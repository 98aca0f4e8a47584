#!/bin/sh
# Builds the extension, and the adapter's parser from the same file, in conformance/target.
set -eu
cd "$(dirname "$0")"
mkdir -p target
cp ../config.m4 ../*.c ../*.h target
cd target
{ phpize && ./configure && make; } >build.log 2>&1 || { tail -30 build.log >&2; exit 1; }
cc -O2 -Wall -o parse ../parse.c ../../follow.c
