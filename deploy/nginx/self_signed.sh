#!/bin/sh
# Make a certificate for trying the gateway out; clients must be told to trust it. For a public name
# get a real one (Let's Encrypt's certbot, say) and put its two files in the same place.
#
#   sh deploy/nginx/self_signed.sh [NAME]            default: localhost
set -eu

name="${1:-localhost}"
folder="${TLS_FOLDER:-$(dirname "$0")/certificates}"

if [ -e "$folder/privkey.pem" ]; then
    echo "There is a key in $folder already; remove it first." >&2
    exit 1
fi
mkdir -p "$folder"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
    -subj "/CN=$name" -addext "subjectAltName=DNS:$name,DNS:localhost,IP:127.0.0.1" \
    -addext "basicConstraints=critical,CA:FALSE" \
    -keyout "$folder/privkey.pem" -out "$folder/fullchain.pem" 2>/dev/null
# The container's nginx is a user of its own, 101. A real key: chown 101 privkey.pem, chmod 0400.
chmod 0644 "$folder/privkey.pem" "$folder/fullchain.pem"
echo "Made $folder/fullchain.pem for $name. A client trusts it with: curl --cacert $folder/fullchain.pem"
