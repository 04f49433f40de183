# bash completion for dkms                                -*- shell-script -*-
# SPDX-License-Identifier: Apache-2.0
#
# A test compares the lists of options with those of the program.

_dkms_actions="add build install uninstall unbuild remove status list verify ready explain preflight matrix doctor fsck lint log config autoinstall match mktarball ldtarball init mkdeb mkrpm mkpackages export import push pull generate_mok kernel_preinst kernel_postinst kernel_prerm autoload cache key metrics hub hook"

# The options that an action has besides those of every action.
_dkms_options() {
  case $1 in
    add) echo "-m --module -v -k --kernelver -a --arch --force -c --archive --directive --rpm_safe_upgrade --dry-run --json" ;;
    build) echo "-m --module -v -k --kernelver -a --arch --force -c --config --kernelsourcedir --directive -j --dry-run --check-reproducible --json" ;;
    install) echo "-m --module -v -k --kernelver -a --arch --force --force-version-override -c --config --kernelsourcedir --directive --no-depmod --modprobe-on-install --symlink-modules --rpm_safe_upgrade -j --dry-run --json" ;;
    uninstall) echo "-m --module -v -k --kernelver -a --arch --all --no-depmod --dry-run --json" ;;
    unbuild) echo "-m --module -v -k --kernelver -a --arch --all --no-depmod --dry-run --json" ;;
    remove) echo "-m --module -v -k --kernelver -a --arch --all --no-depmod --rpm_safe_upgrade --dry-run --json" ;;
    status) echo "-m --module -v -k --kernelver -a --arch --json" ;;
    list) echo "-m --module -v -k --kernelver -a --arch --json" ;;
    verify) echo "-m --module -v -k --kernelver -a --arch --json" ;;
    log) echo "-m --module -v -k --kernelver -a --arch --diagnosis --json" ;;
    ready) echo "-k --kernelver -a --arch --templatekernel --next-boot --json" ;;
    explain) echo "-m --module -v -k --kernelver -a --arch --force --force-version-override -c --config --kernelsourcedir --directive --no-depmod --symlink-modules --json" ;;
    preflight) echo "-k --kernelver -a --arch -j --download --json" ;;
    matrix) echo "-k --kernelver -a --arch --kernels -j --download --json --markdown --html" ;;
    doctor) echo "-m --module -v -k --kernelver -a --arch --json" ;;
    fsck) echo "--repair --dry-run --json" ;;
    lint) echo "--json" ;;
    cache) echo "--json" ;;
    key) echo "-k --kernelver -a --arch --bundle --dry-run --json" ;;
    config) echo "-m --module -v -k --kernelver -a --arch -c --config --kernelsourcedir --directive --json" ;;
    autoinstall) echo "-m --module -v -k --kernelver -a --arch --force --config --kernelsourcedir --directive --no-depmod --modprobe-on-install --symlink-modules -j --dry-run --json" ;;
    match) echo "-m --module -v -k --kernelver -a --arch --force -c --config --kernelsourcedir --templatekernel --directive --no-depmod -j --dry-run --json" ;;
    mktarball) echo "-m --module -v -k --kernelver -a --arch --all -c --archive --binaries-only --source-only --dry-run" ;;
    ldtarball) echo "-k --kernelver -a --arch --force --archive --dry-run --json" ;;
    init) echo "-m --module -v --dry-run --json" ;;
    mkdeb) echo "-m --module -v -k --kernelver -a --arch --binary --field --output --directive -j --dry-run --json" ;;
    mkrpm) echo "-m --module -v -k --kernelver -a --arch --binary --field --output --directive -j --dry-run --json" ;;
    mkpackages) echo "-m --module -v -k --kernelver -a --arch --binary --field --output --directive -j --dry-run --json" ;;
    export) echo "-m --module -v -k --kernelver -a --arch --output --sign --with-source --dry-run" ;;
    import) echo "-k --kernelver -a --arch --trust --force --no-depmod --modprobe-on-install --dry-run --json" ;;
    push) echo "-m --module -v -k --kernelver -a --arch --to --sign --with-source --dry-run" ;;
    pull) echo "-m --module -v -k --kernelver -a --arch --from --trust --force --no-depmod --modprobe-on-install --dry-run --json" ;;
    generate_mok) echo "" ;;
    kernel_preinst) echo "-k --kernelver -a --arch" ;;
    kernel_postinst) echo "-k --kernelver -a --arch" ;;
    kernel_prerm) echo "-k --kernelver -a --arch" ;;
    autoload) echo "--json" ;;
    metrics) echo "--output" ;;
    hub) echo "--ca --name --json" ;;
    hook) echo "" ;;
    *) echo "--dkmstree --sourcetree --installtree --root --verbose -q --quiet --debug -V --version -h --help" ;;
  esac
}

# The names, or with a name the versions, of the modules in a tree.
_dkms_modules() {
  local dir
  for dir in "$1"/*/*/source; do
    [[ -L $dir ]] || continue
    dir=${dir%/source}
    case $2 in
      names) dir=${dir%/*} && echo "${dir##*/}" ;;
      pairs) echo "${dir#"$1"/}" ;;
      *) [[ ${dir%/*} == "$1/$3" ]] && echo "${dir##*/}" ;;
    esac
  done | sort -u
}

# The modules whose source waits in the source tree.
_dkms_sources() {
  local conf name
  for conf in "$1"/*-*/dkms.conf; do
    [[ -e $conf ]] || continue
    name=${conf%/dkms.conf}
    name=${name##*/}
    echo "${name%-*}/${name##*-}"
  done
}

# The releases of the kernels that there are.
_dkms_kernels() {
  local dir
  for dir in "$1"/*/; do
    [[ -d $dir ]] || continue
    dir=${dir%/}
    echo "${dir##*/}"
  done
}

_dkms_reply() {
  local IFS=$'\n'
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

# What comes behind hook and autoload.
_dkms_hooks="image headers verdict preinst prerm package replaced autoinstaller kernel-install pacman boot"
_dkms_switches="on off status"

_dkms() {
  local cur prev word action='' module='' tree=/var/lib/dkms sources=/usr/src modules=/lib/modules i
  COMPREPLY=()
  # A module is name/version and a kernel may have a colon: words are split at
  # blanks only.
  cur=${COMP_WORDS[COMP_CWORD]}
  prev=${COMP_WORDS[COMP_CWORD - 1]}
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    case $word in
      -m | --module) module=${COMP_WORDS[i + 1]%%/*} ;;
      --dkmstree) tree=${COMP_WORDS[i + 1]} ;;
      --sourcetree) sources=${COMP_WORDS[i + 1]} ;;
      --installtree) modules=${COMP_WORDS[i + 1]} ;;
      *) [[ -z $action && " $_dkms_actions " == *" $word "* ]] && action=$word ;;
    esac
  done
  case $prev in
    -m | --module) _dkms_reply "$(_dkms_modules "$tree" names)"; return ;;
    -v) _dkms_reply "$(_dkms_modules "$tree" versions "$module")"; return ;;
    -k | --kernelver | --templatekernel | --kernels) _dkms_reply "$(_dkms_kernels "$modules")"; return ;;
    -a | --arch | -j | --directive | --field) return ;;
    -c | --config | --archive | --html | --output) compopt -o default 2>/dev/null; return ;;
    --dkmstree | --sourcetree | --installtree | --kernelsourcedir | --root)
      compopt -o dirnames 2>/dev/null
      return
      ;;
  esac
  if [[ -z $action && $cur != -* ]]; then
    _dkms_reply "${_dkms_actions// /$'\n'}"
    return
  fi
  if [[ $cur == -* ]]; then
    word="$(_dkms_options none)"
    [[ -n $action ]] && word="$(_dkms_options "$action") $word"
    _dkms_reply "${word// /$'\n'}"
    return
  fi
  case $action in
    init) compopt -o dirnames 2>/dev/null ;;
    mkdeb | mkrpm | mkpackages) _dkms_reply "$(_dkms_modules "$tree" pairs; _dkms_sources "$sources")"; compopt -o default 2>/dev/null ;;
    ldtarball | import) compopt -o default 2>/dev/null ;;
    add) _dkms_reply "$(_dkms_sources "$sources")"; compopt -o default 2>/dev/null ;;
    build | install | config | log) _dkms_reply "$(_dkms_modules "$tree" pairs; _dkms_sources "$sources")"; compopt -o default 2>/dev/null ;;
    match) _dkms_reply "$(_dkms_modules "$tree" names)" ;;
    autoload)
      if [[ $prev == autoload ]]; then _dkms_reply "${_dkms_switches// /$'\n'}"; else _dkms_reply "$(_dkms_modules "$tree" names)"; fi
      ;;
    cache) _dkms_reply $'stats\nclean' ;;
    key) _dkms_reply $'status\ngenerate\nenrol' ;;
    hook)
      if [[ $prev == hook ]]; then _dkms_reply "${_dkms_hooks// /$'\n'}"; else _dkms_reply "$(_dkms_kernels "$modules")"; fi
      ;;
    generate_mok | kernel_* | ready | metrics) ;;
    *) _dkms_reply "$(_dkms_modules "$tree" pairs)" ;;
  esac
} && complete -F _dkms dkms
