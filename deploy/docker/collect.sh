#!/usr/bin/env bash
# collect.sh ROOT BINARY: makes ROOT the root filesystem of an image that runs BINARY as
# /usr/bin/<name>: the binary, the shared libraries that ldd names (each at its own path, so that
# what the binary says about where they are stays true), certificates of authorities for TLS
# without --tls-ca, and a list of the Debian packages that the files come from.
set -euo pipefail

fail() {
  printf 'collect.sh: %s\n' "$*" >&2
  exit 1
}

(($# == 2)) || fail "usage: collect.sh ROOT BINARY"
root=$1
binary=$2
[[ -x $binary ]] || fail "there is no program $binary"
[[ ! -e $root ]] || fail "$root is there already"

install -D -m 755 -- "$binary" "$root/usr/bin/${binary##*/}"

# A line of ldd is "NAME => PATH (…)" or, for the loader, "PATH (…)".
libraries=$(ldd "$binary")
! grep 'not found' <<<"$libraries" >&2 || fail "$binary needs libraries that are not here"
mapfile -t paths < <(awk '$2 == "=>" {print $3} $1 ~ /^\// {print $1}' <<<"$libraries")
((${#paths[@]} > 0)) || fail "ldd names no library of $binary"

packages=$root/usr/share/strata/packages.txt
install -d -- "${packages%/*}"
for path in "${paths[@]}"; do
  install -D -m 755 -- "$path" "$root$path"
  # Packages list a library by the path it had before Debian merged /lib into /usr/lib.
  file=$(realpath -- "$path")
  owner=$(dpkg-query -S "$file" "${file#/usr}" 2>/dev/null | head -n 1 | cut -d ' ' -f 1) || true
  if [[ -n $owner ]]; then
    dpkg-query -W -f '${binary:Package} ${Version}\n' "${owner%:}"
  else
    printf '%s\n' "$path"
  fi
done | sort -u >"$packages"

authorities=/etc/ssl/certs/ca-certificates.crt
[[ ! -r $authorities ]] || install -D -m 644 -- "$authorities" "$root$authorities"
printf 'strata:x:65532:65532::/:/sbin/nologin\n' | install -D -m 644 /dev/stdin "$root/etc/passwd"
printf 'strata:x:65532:\n' | install -D -m 644 /dev/stdin "$root/etc/group"
# Where volumes are mounted, and what the runtime fills: a read-only root cannot grow them.
install -d -- "$root"/{corpus,etc/strata,etc/strata-auth,etc/strata-tls,input,model,proc,dev,scratch,sys,tiers,tmp,var/lib/strata,var/log/strata}
