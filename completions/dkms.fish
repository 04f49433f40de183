# SPDX-License-Identifier: Apache-2.0
#
# fish completion for dkms. A test compares the lists with those of the program.

function __dkms_tree --description 'The value of an option for a tree, or its default'
    set -l words (commandline -opc)
    for i in (seq (count $words))
        if test "$words[$i]" = "$argv[1]"; and test $i -lt (count $words)
            echo $words[(math $i + 1)]
            return
        end
    end
    echo $argv[2]
end

function __dkms_which --description 'The action on the command line'
    for word in (commandline -opc)[2..-1]
        if contains -- $word $__dkms_actions
            echo $word
            return
        end
    end
end

function __dkms_no_action
    test -z "$(__dkms_which)"
end

function __dkms_action
    contains -- "$(__dkms_which)" $argv
end

function __dkms_links --description 'The source links of all modules'
    set -l tree (__dkms_tree --dkmstree /var/lib/dkms)
    for link in $tree/*/*/source
        test -L $link; and string replace -- $tree/ '' (string replace -r '/source$' '' -- $link)
    end
end

function __dkms_modules
    __dkms_links | string replace -r '/.*' '' | sort -u
end

function __dkms_versions
    __dkms_links | string replace -r '.*/' '' | sort -u
end

function __dkms_sources --description 'The modules whose source waits in the source tree'
    for conf in (__dkms_tree --sourcetree /usr/src)/*-*/dkms.conf
        string replace -r '.*/(.*)-([^-]*)/dkms\.conf$' '$1/$2' -- $conf
    end
end

function __dkms_kernels
    for dir in (__dkms_tree --installtree /lib/modules)/*/
        string replace -r '.*/([^/]+)/$' '$1' -- $dir
    end
end

set -g __dkms_actions add build install uninstall unbuild remove status list verify ready explain preflight matrix doctor fsck lint log config autoinstall match mktarball ldtarball init mkdeb mkrpm mkpackages export import push pull generate_mok kernel_preinst kernel_postinst kernel_prerm autoload cache key metrics hub hook

complete -c dkms -f -n __dkms_no_action -a add -d 'register a module whose source is in the source tree, or bring it there'
complete -c dkms -f -n __dkms_no_action -a build -d 'compile a module for one or more kernels, adding it if needed'
complete -c dkms -f -n __dkms_no_action -a install -d 'install a module for one or more kernels, building it if needed'
complete -c dkms -f -n __dkms_no_action -a uninstall -d 'take a module out of kernels\' trees; it stays built'
complete -c dkms -f -n __dkms_no_action -a unbuild -d 'delete what was built for kernels; the module stays added'
complete -c dkms -f -n __dkms_no_action -a remove -d 'undo everything for kernels, and the registration once no kernel is left'
complete -c dkms -f -n __dkms_no_action -a status -d 'show how modules stand; names and kernels may be shell patterns'
complete -c dkms -f -n __dkms_no_action -a list -d 'list modules with the kernels each is built and installed for'
complete -c dkms -f -n __dkms_no_action -a verify -d 'tell of each object whether its kernel would load it; nothing is loaded'
complete -c dkms -f -n __dkms_no_action -a ready -d 'tell whether a kernel, by default the one that boots next, has all modules that it needs'
complete -c dkms -f -n __dkms_no_action -a explain -d 'tell what an action would do for kernels and why, with the facts compared; nothing is done'
complete -c dkms -f -n __dkms_no_action -a preflight -d 'tell whether the modules of the tree would build for a kernel, also for one that is not installed; nothing is installed'
complete -c dkms -f -n __dkms_no_action -a matrix -d 'build modules from directories for several kernels, and show a table of what came of it; nothing is added'
complete -c dkms -f -n __dkms_no_action -a doctor -d 'tell what keeps modules from being built, installed and loaded, why, and what to do'
complete -c dkms -f -n __dkms_no_action -a fsck -d 'look for what is not in order in the DKMS tree and in what is installed, and repair it'
complete -c dkms -f -n __dkms_no_action -a lint -d 'tell a module\'s author what to do better; nothing of the module is executed'
complete -c dkms -f -n __dkms_no_action -a log -d 'show the log of the last build and, if it failed, why and what to do next'
complete -c dkms -f -n __dkms_no_action -a config -d 'show what dkms.conf comes to for a kernel'
complete -c dkms -f -n __dkms_no_action -a autoinstall -d 'install, for one kernel, all modules that ask for it, dependencies first'
complete -c dkms -f -n __dkms_no_action -a match -d 'install for a kernel what is installed for another'
complete -c dkms -f -n __dkms_no_action -a mktarball -d 'pack the source and what is built into an archive'
complete -c dkms -f -n __dkms_no_action -a ldtarball -d 'add a module from an archive, with what is built in it'
complete -c dkms -f -n __dkms_no_action -a init -d 'write a dkms.conf to begin with, and dkms.mk, for a module\'s source; what is there stays'
complete -c dkms -f -n __dkms_no_action -a mkdeb -d 'make a Debian package of a module\'s source, or of what is built for a kernel'
complete -c dkms -f -n __dkms_no_action -a mkrpm -d 'make an rpm package of a module\'s source, or of what is built for a kernel'
complete -c dkms -f -n __dkms_no_action -a mkpackages -d 'make both packages'
complete -c dkms -f -n __dkms_no_action -a export -d 'write what is built for kernels into bundles, for machines that can\'t build it'
complete -c dkms -f -n __dkms_no_action -a import -d 'install a module from a bundle, without compiler, headers or source'
complete -c dkms -f -n __dkms_no_action -a push -d 'put what is built for kernels into a registry or a directory, for others to pull'
complete -c dkms -f -n __dkms_no_action -a pull -d 'install a module for kernels from a source of prebuilts; nothing is built'
complete -c dkms -f -n __dkms_no_action -a generate_mok -d 'make the module signing key if there is none'
complete -c dkms -f -n __dkms_no_action -a kernel_preinst -d 'for kernel packages: before a kernel is replaced'
complete -c dkms -f -n __dkms_no_action -a kernel_postinst -d 'for kernel packages: after a kernel was installed'
complete -c dkms -f -n __dkms_no_action -a kernel_prerm -d 'for kernel packages: before a kernel is removed'
complete -c dkms -f -n __dkms_no_action -a autoload -d 'load a module\'s objects at boot, or not'
complete -c dkms -f -n __dkms_no_action -a cache -d 'show or remove what is kept between builds'
complete -c dkms -f -n __dkms_no_action -a key -d 'tell of the signing key whether the kernel trusts it, make it, or enrol it; or make a key for bundles'
complete -c dkms -f -n __dkms_no_action -a hub -d 'make this host one of a hub\'s, tell the hub how modules stand, or tell of the hub'
complete -c dkms -f -n __dkms_no_action -a metrics -d 'print how modules stand as metrics of Prometheus'
complete -c dkms -f -n __dkms_no_action -a hook -d 'do the work of a package manager\'s hook'
complete -c dkms -l dkmstree -xa '(__fish_complete_directories)' -d 'the DKMS tree'
complete -c dkms -l sourcetree -xa '(__fish_complete_directories)' -d 'where module sources are'
complete -c dkms -l installtree -xa '(__fish_complete_directories)' -d 'where kernels have their modules'
complete -c dkms -l root -xa '(__fish_complete_directories)' -d 'work on another root directory, on the kernels in it'
complete -c dkms -l verbose -f -d 'show commands and their output'
complete -c dkms -s q -l quiet -f -d 'print nothing; the exit code tells'
complete -c dkms -l debug -f -d 'as --verbose'
complete -c dkms -s V -l version -f -d 'print the version'
complete -c dkms -s h -l help -f -d 'print help, after an action that of the action'
complete -c dkms -n '__dkms_action add build install uninstall unbuild remove status list verify explain doctor log config autoinstall match mktarball init mkdeb mkrpm mkpackages export push pull' -s m -l module -xa '(__dkms_modules)' -d 'the module, as <name> or <name>/<version>'
complete -c dkms -n '__dkms_action add build install uninstall unbuild remove status list verify explain doctor log config autoinstall match mktarball init mkdeb mkrpm mkpackages export push pull' -s v -xa '(__dkms_versions)' -d 'the module\'s version'
complete -c dkms -n '__dkms_action add build install uninstall unbuild remove status list verify ready explain preflight matrix doctor log config autoinstall match mktarball ldtarball key kernel_preinst kernel_postinst kernel_prerm mkdeb mkrpm mkpackages export import push pull' -s k -l kernelver -xa '(__dkms_kernels)' -d 'kernel release, or <release>/<arch>, or the path of a kernel tree; may be repeated'
complete -c dkms -n '__dkms_action add build install uninstall unbuild remove status list verify ready explain preflight matrix doctor log config autoinstall match mktarball ldtarball key kernel_preinst kernel_postinst kernel_prerm mkdeb mkrpm mkpackages export import push pull' -s a -l arch -x -d 'architecture; may be repeated'
complete -c dkms -n '__dkms_action add build install explain autoinstall match ldtarball import pull' -l force -f -d 'do it even if it is done already or a check speaks against it'
complete -c dkms -n '__dkms_action add build install explain config match mktarball' -s c -rF -d 'a dkms.conf to use instead of the module\'s'
complete -c dkms -n '__dkms_action add mktarball ldtarball' -l archive -rF -d 'the archive to write or to load'
complete -c dkms -n '__dkms_action add build install explain config autoinstall match mkdeb mkrpm mkpackages' -l directive -x -d 'set a directive of dkms.conf; may be repeated'
complete -c dkms -n '__dkms_action add install remove' -l rpm_safe_upgrade -f -d 'for use in rpm scriptlets: keep a module that is added again'
complete -c dkms -n '__dkms_action fsck' -l repair -f -d 'repair what fsck finds'
complete -c dkms -n '__dkms_action add build install uninstall unbuild remove autoinstall match mktarball ldtarball fsck key init mkdeb mkrpm mkpackages export import push pull' -l dry-run -f -d 'show the steps and do nothing'
complete -c dkms -n '__dkms_action build install explain config autoinstall match' -l config -rF -d 'the kernel\'s configuration file'
complete -c dkms -n '__dkms_action build install explain config autoinstall match' -l kernelsourcedir -xa '(__fish_complete_directories)' -d 'the kernel\'s build directory'
complete -c dkms -n '__dkms_action build install preflight matrix autoinstall match mkdeb mkrpm mkpackages' -s j -x -d 'parallel jobs; 0 for no limit'
complete -c dkms -n '__dkms_action install explain' -l force-version-override -f -d 'install without comparing versions'
complete -c dkms -n '__dkms_action install explain uninstall unbuild remove autoinstall match import pull' -l no-depmod -f -d 'leave the module index as it is'
complete -c dkms -n '__dkms_action install autoinstall import pull' -l modprobe-on-install -f -d 'load what the devices need after an install for the running kernel'
complete -c dkms -n '__dkms_action install explain autoinstall' -l symlink-modules -f -d 'install links instead of copies'
complete -c dkms -n '__dkms_action uninstall unbuild remove mktarball' -l all -f -d 'every kernel that the module is built for'
complete -c dkms -n '__dkms_action build' -l check-reproducible -f -d 'build twice and compare; keep the result only if the bytes are the same'
complete -c dkms -n '__dkms_action hub' -l ca -rF -d 'the certificate of the authority that the hub is known by'
complete -c dkms -n '__dkms_action hub' -l name -x -d 'the name of this host at the hub, by default its own'
complete -c dkms -n '__dkms_action add build install uninstall unbuild remove status list config verify ready explain preflight matrix doctor fsck lint log autoinstall match ldtarball autoload cache key hub init mkdeb mkrpm mkpackages import pull' -l json -f -d 'print JSON on standard output; what is for people goes to standard error'
complete -c dkms -n '__dkms_action mkdeb mkrpm mkpackages' -l binary -f -d 'make packages of what is built for a kernel, not of the source'
complete -c dkms -n '__dkms_action mkdeb mkrpm mkpackages' -l field -x -d 'set a field of a package; may be repeated'
complete -c dkms -n '__dkms_action metrics mkdeb mkrpm mkpackages export' -l output -rF -d 'the file for the metrics, which is replaced whole, or the directory for packages and bundles'
complete -c dkms -n '__dkms_action key' -l bundle -rF -d 'make a key that signs bundles, in that file, its public part beside it'
complete -c dkms -n '__dkms_action log' -l diagnosis -f -d 'print why the build failed, and not its log'
complete -c dkms -n '__dkms_action match ready' -l templatekernel -xa '(__dkms_kernels)' -d 'the kernel that match and ready take as their model'
complete -c dkms -n '__dkms_action ready' -l next-boot -f -d 'the kernel that boots next; the default of ready'
complete -c dkms -n '__dkms_action matrix' -l kernels -xa '(__dkms_kernels)' -d 'kernels and header packages, separated by commas; or installed, or all-headers'
complete -c dkms -n '__dkms_action preflight matrix' -l download -f -d 'have apt download the headers of kernels that are not installed'
complete -c dkms -n '__dkms_action matrix' -l markdown -f -d 'print a table in Markdown'
complete -c dkms -n '__dkms_action matrix' -l html -rF -d 'write a page with the table and the logs of failed builds'
complete -c dkms -n '__dkms_action mktarball' -l binaries-only -f -d 'pack only what is built'
complete -c dkms -n '__dkms_action mktarball' -l source-only -f -d 'pack only the source'

complete -c dkms -f -n '__dkms_action build install config uninstall unbuild remove status list verify explain doctor log autoinstall mktarball' -a '(__dkms_links)' -d module
complete -c dkms -n '__dkms_action add build install config' -a '(__dkms_sources)' -d source
complete -c dkms -f -n '__dkms_action match autoload' -a '(__dkms_modules)' -d module
complete -c dkms -n '__dkms_action explain' -a 'build install autoinstall' -d action
complete -c dkms -n '__dkms_action preflight' -a '(__dkms_kernels)' -d kernel
complete -c dkms -n '__dkms_action preflight' -a '(__dkms_links)' -d module
complete -c dkms -n '__dkms_action export push' -l sign -rF -d 'the key that signs bundles'
complete -c dkms -n '__dkms_action export push' -l with-source -f -d 'pack the source into the bundle as well'
complete -c dkms -n '__dkms_action import pull' -l trust -rF -d 'a public key that bundles may be signed by, besides those in the directory of trusted keys; may be repeated'
complete -c dkms -n '__dkms_action push' -l to -x -d 'where to put what is built, a registry (oci://) or a directory (file://)'
complete -c dkms -n '__dkms_action pull' -l from -x -d 'a source of prebuilts, in place of those of framework.conf; may be repeated'
complete -c dkms -f -n '__dkms_action autoload' -a 'on off status'
complete -c dkms -f -n '__dkms_action cache' -a 'stats clean'
complete -c dkms -f -n '__dkms_action key' -a 'status generate enrol'
complete -c dkms -f -n '__dkms_action hook' -a 'image headers verdict preinst prerm package replaced autoinstaller kernel-install pacman boot'
complete -c dkms -f -n '__dkms_action hook' -a '(__dkms_kernels)' -d kernel
complete -c dkms -f -n '__dkms_action generate_mok ready kernel_preinst kernel_postinst kernel_prerm'
