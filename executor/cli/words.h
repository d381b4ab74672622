// SPDX-License-Identifier: Apache-2.0
// Help texts that more than one verb's option table uses.
#pragma once

namespace amphora::cli::words {

inline constexpr char kBundle[] =
    "path to the root of the bundle directory, defaults to the current directory";
inline constexpr char kConsoleSocket[] =
    "path to an AF_UNIX socket which will receive a file descriptor referencing the master end of "
    "the console's pseudoterminal";
inline constexpr char kPidfdSocket[] =
    "path to an AF_UNIX socket which will receive a file descriptor referencing the process";
inline constexpr char kPidFile[] = "specify the file to write the process id to";
inline constexpr char kNoPivot[] =
    "do not use pivot root to jail process inside rootfs; for a rootfs on top of a ramdisk";
inline constexpr char kNoNewKeyring[] = "do not create a new session keyring for the container";
inline constexpr char kPreserveFds[] =
    "pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total)";
inline constexpr char kDetach[] = "detach from the container's process";
inline constexpr char kFormat[] = "select one of: table or json";

}  // namespace amphora::cli::words
