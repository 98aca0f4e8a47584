#!/bin/sh
# Installs the package and the drivers into conformance/.venv; cryptography is for passwords that are encrypted without TLS.
set -eu
python3 -m venv conformance/.venv
conformance/.venv/bin/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps .
conformance/.venv/bin/pip install --quiet --disable-pip-version-check \
    'PyMySQL>=1.2' 'asyncmy>=0.2.18' 'aiomysql>=0.3' 'SQLAlchemy[asyncio]>=2.1' cryptography
