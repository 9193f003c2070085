#!/bin/sh
# Publishes the shipped weights of models that have no version yet, and gives every version its
# batching parameters. The engines start when this has ended, so no version changes under them.
set -eu
repository="${REPOSITORY:-/models}"
parameters="${PARAMETERS:-/config/batching}"

python -m export publish "$@" --repository "$repository" --if-missing

for model in "$@"; do
    for version in "$repository/$model"/[0-9]*; do
        file="$version/batching_params.pbtxt"
        [ -e "$file" ] && continue
        cp "$parameters/$model.pbtxt" "$file.new"
        mv "$file.new" "$file"
    done
done
