mkdir -p "$build" "$top"
if [ -n "$tree" ]; then
  [ ! -e "$tree/src" ] || { mkdir -p "$source"; cp -rs --no-preserve=mode "$tree/src/." "$source"; }
  [ ! -e "$tree/build" ] || cp -rs --no-preserve=mode "$tree/build/." "$top"
fi
cd "$build"
set --
for need in $(cat "$needsPath"); do set -- "$@" "$need/."; done
[ $# = 0 ] || cp -rs --no-preserve=mode "$@" .
eval "set -- $makes"
for made; do mkdir -p "$(dirname "$made")"; done
[ -z "$response" ] || { mkdir -p "$(dirname "$response")"; cat "$contentPath" > "$response"; }
sh "$commandPath"
for made; do
  mkdir -p "$out/$(dirname "$made")"
  [ -L "$made" ] || mv "$made" "$out/$made"
done
here=$(pwd -P)
for made; do
  [ -L "$made" ] || continue
  real=$(readlink -f "$made")
  case $real in "$here"/*) cp -P "$made" "$out/$made";; *) ln -s "$real" "$out/$made";; esac
done
