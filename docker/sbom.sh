#!/usr/bin/env bash
# Prints what is in the images as SPDX 2.3 (JSON): the programs, the shared libraries beside them, and what is compiled into
# them. collect.sh calls it for the folder that it has filled.
#   sbom.sh OUT
# SOURCE_DATE_EPOCH, if set, is the time of creation.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here out=$1
# A line for each package of which the image has a library: source package, package, version.
readonly libraries=$out/usr/share/doc/espalier/libraries
# Debian's packages whose headers become part of the programs.
readonly headers=(libcli11-dev libeigen3-dev nlohmann-json3-dev)

quoted() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

# The identifier of SPDX for a short name of Debian's copyright format; nothing for names that have none.
spdx_license() {
  case $1 in
    Expat | MIT) echo MIT ;;
    Apache-2 | Apache-2.0) echo Apache-2.0 ;;
    BSD-2-clause | BSD-2-Clause) echo BSD-2-Clause ;;
    BSD-3-clause | BSD-3-Clause) echo BSD-3-Clause ;;
    BSL-1 | BSL-1.0) echo BSL-1.0 ;;
    GPL-1 | GPL-2 | GPL-3 | LGPL-2 | LGPL-3) echo "$1.0-only" ;;
    GPL-2+ | GPL-3+ | LGPL-2+ | LGPL-3+) echo "${1%+}.0-or-later" ;;
    GPL-1+) echo GPL-1.0-or-later ;;
    LGPL-2.1) echo LGPL-2.1-only ;;
    LGPL-2.1+) echo LGPL-2.1-or-later ;;
    MPL-2 | MPL-2.0) echo MPL-2.0 ;;
    PSF-2) echo PSF-2.0 ;;
    0BSD | CC0-1.0 | curl | FSFUL | FSFULLR | ISC | PostgreSQL | X11) echo "$1" ;;
    zlib | Zlib | ZLIB) echo Zlib ;;
  esac
}

# One for a name that SPDX does not have; its words are in the package's copyright file.
license_reference() { printf 'LicenseRef-Debian-%s' "$(sed -E 's/\+/-or-later/g; s/[^A-Za-z0-9.-]+/-/g; s/-+$//' <<<"$1")"; }

# All licences that the package's copyright file names, joined; NOASSERTION where it is not in Debian's format. Adds
# those that have no identifier to the file `references`.
declared_license() {
  local package=$1 file name identifier
  file=/usr/share/doc/$package/copyright
  if [[ ! -e $file ]] || ! head -n 5 "$file" | grep -qiE '^Format: .*copyright-format'; then
    echo NOASSERTION
    return
  fi
  while read -r name; do
    identifier=$(spdx_license "$name")
    if [[ -z $identifier ]]; then
      identifier=$(license_reference "$name")
      printf '%s\t%s\t%s\n' "$identifier" "$name" "$package" >>"$references"
    fi
    echo "$identifier"
  done < <(sed -nE 's/^License:[[:space:]]*(\S.*\S|\S)[[:space:]]*$/\1/p' "$file") |
    sort -u | sed ':line; N; s/\n/ AND /; t line' | grep . || echo NOASSERTION
}

# package_entry ID NAME VERSION SUPPLIER LICENSE PURPOSE [MORE MEMBERS]
package_entry() {
  printf '    {"SPDXID": %s, "name": %s, "versionInfo": %s, "supplier": %s, "downloadLocation": "NOASSERTION",\n' \
    "$(quoted "$1")" "$(quoted "$2")" "$(quoted "$3")" "$(quoted "$4")"
  printf '     "filesAnalyzed": false, "licenseConcluded": "NOASSERTION", "licenseDeclared": %s,\n' "$(quoted "$5")"
  printf '     "copyrightText": "NOASSERTION", "primaryPackagePurpose": "%s"%s}' "$6" "${7:-}"
}

reference_to() { printf ', "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": %s}]' "$(quoted "$1")"; }

# As a part of an identifier.
id_of() { printf 'SPDXRef-Package-%s' "$(sed -E 's/[^A-Za-z0-9.-]+/-/g' <<<"$1")"; }

debian_entry() {
  local source=$1 package=$2 version=$3 architecture
  architecture=$(dpkg-query -W -f '${Architecture}' "$package")
  package_entry "$(id_of "$package")" "$package" "$version" "Organization: Debian" "$(declared_license "$package")" LIBRARY \
    "$(reference_to "pkg:deb/debian/$package@${version//+/%2B}?arch=$architecture"), \"sourceInfo\": $(quoted "Debian source package $source")"
}

program_entry() {
  local program=$1 version=$2 digest
  digest=$(sha256sum "$out/usr/bin/$program" | cut -d' ' -f1)
  package_entry "$(id_of "$program")" "$program" "$version" NOASSERTION Apache-2.0 APPLICATION \
    ", \"packageFileName\": $(quoted "./usr/bin/$program"), \"checksums\": [{\"algorithm\": \"SHA256\", \"checksumValue\": \"$digest\"}]"
}

relationship() {
  printf '    {"spdxElementId": %s, "relationshipType": "%s", "relatedSpdxElement": %s}' "$(quoted "$1")" "$2" "$(quoted "$3")"
}

# Lists what there is into the files `packages` and `relationships`, an object after the other.
list_all() {
  local program source package version header onednn
  for program in "${programs[@]}"; do
    program_entry "$program" "$espalier" >>"$packages"
    relationship SPDXRef-DOCUMENT DESCRIBES "$(id_of "$program")" >>"$relationships"
    for header in "${headers[@]}"; do
      relationship "$(id_of "$program")" STATIC_LINK "$(id_of "$header")" >>"$relationships"
    done
  done
  while read -r source package version; do
    debian_entry "$source" "$package" "$version" >>"$packages"
    relationship SPDXRef-DOCUMENT DESCRIBES "$(id_of "$package")" >>"$relationships"
  done <"$libraries"
  for header in "${headers[@]}"; do
    read -r source version < <(dpkg-query -W -f '${source:Package} ${Version}\n' "$header")
    debian_entry "$source" "$header" "$version" >>"$packages"
  done
  if ! grep -q ' libdnnl' "$libraries"; then
    onednn=$(<"$here/../cmake/deps/onednn.version")
    package_entry SPDXRef-Package-oneDNN oneDNN "${onednn%-r*}" NOASSERTION Apache-2.0 LIBRARY \
      ", \"sourceInfo\": $(quoted "Debian's source package onednn, compiled by cmake/deps/onednn.sh (recipe $onednn)")$(reference_to "pkg:github/uxlfoundation/oneDNN@v${onednn%-r*}")" \
      >>"$packages"
    relationship "$(id_of espalier-worker)" STATIC_LINK SPDXRef-Package-oneDNN >>"$relationships"
  fi
}

# Objects with a comma between each two.
joined() { sed 's/}\(    {\)/},\n\1/g' "$1"; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
readonly work packages=$work/packages relationships=$work/relationships references=$work/references
touch "$references"
mapfile -t programs < <(cd "$out/usr/bin" && printf '%s\n' *)
readonly programs
espalier=$("$out/usr/bin/espalier" --version | cut -d' ' -f2)
readonly espalier
list_all
content=$(cat "$packages" "$relationships" | sha256sum | cut -c1-32)

cat <<END
{
  "spdxVersion": "SPDX-2.3",
  "dataLicense": "CC0-1.0",
  "SPDXID": "SPDXRef-DOCUMENT",
  "name": "espalier-$espalier",
  "documentNamespace": "https://spdx.org/spdxdocs/espalier-$espalier-$content",
  "creationInfo": {"created": "$(date -u -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" +%Y-%m-%dT%H:%M:%SZ)", "creators": ["Tool: espalier-docker-sbom.sh-$espalier"]},
  "packages": [
$(joined "$packages")
  ],
  "relationships": [
$(joined "$relationships")
  ],
  "hasExtractedLicensingInfos": [
$(sort -u -t$'\t' -k1,1 "$references" | while IFS=$'\t' read -r identifier name package; do
  printf '    {"licenseId": %s, "name": %s, "extractedText": %s}\n' "$(quoted "$identifier")" "$(quoted "$name")" \
    "$(quoted "Named \"$name\" in /usr/share/doc/$package/copyright, which has its words.")"
done | sed '$!s/$/,/')
  ]
}
END
