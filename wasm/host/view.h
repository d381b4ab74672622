// SPDX-License-Identifier: Apache-2.0
// The zygote's programs and libraries are mapped from a read-only view of the host: what a clone has
// mapped can be opened through /proc/PID/map_files with the rights of the mount it came from, and its
// tenants must not write to the host's libc. Not here: what is loaded.
#pragma once

namespace amphora::wasm {

/// Executes this program anew with a read-only clone of the host's mounts for its root, so that its
/// loader and libraries come from there. Two descriptors are left behind `socket` for leave_view, and
/// "--view" is appended to the arguments. Returns where that cannot be done: without CAP_SYS_ADMIN,
/// where no tenant has the right to look at map_files either.
void enter_view(int socket, char* const argv[]) noexcept;
/// Goes back to the host's own root; the mounts of the view go but for those that are mapped.
bool leave_view(int socket) noexcept;

}  // namespace amphora::wasm
