#!/bin/sh
# Installs the Debian packages that a make target needs, if they are missing.
#
#   test/install.sh demo|test|programs|generate
set -eu

case "${1:-}" in
demo) packages="openssl curl" ;;
test) packages="openssl curl dbus-daemon runc crun gcc libc6-dev sysdig qemu-system-x86 qemu-system-arm busybox-static mmdebstrap e2fsprogs kmod xz-utils cpio" ;;
programs) packages="gcc libc6-dev default-jdk-headless qemu-system-x86 mmdebstrap e2fsprogs xz-utils" ;;
generate) packages="clang-19 llvm-19 libbpf-dev clang-format-19" ;;
*)
	echo "usage: test/install.sh demo|test|programs|generate" >&2
	exit 2
	;;
esac

missing=""
for package in $packages; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "test/install.sh: install packages: this is no Debian machine; install by hand:$missing" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "test/install.sh: install packages: needs root for:$missing" >&2
	exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# The lists may be stale or absent on a fresh machine.
# shellcheck disable=SC2086
apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends $missing >/dev/null 2>&1 ||
	{ apt-get -qq update && apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends $missing; }
