// SPDX-License-Identifier: Apache-2.0
// See identity.h.
#include "wasm/identity.h"

#include <sys/auxv.h>
#include <sys/stat.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>

#ifdef __x86_64__
#include <sys/platform/x86.h>
#endif

namespace amphora::wasm {
namespace {

void append(std::string* out, uint64_t value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// The features that a compiler may use. A machine's cache may be restored on another one.
void append_cpu(std::string* out) {
  append(out, ::getauxval(AT_HWCAP));
  append(out, ::getauxval(AT_HWCAP2));
#ifdef __x86_64__
  // As libc has read them at start: in a virtual machine each CPUID costs 20 microseconds and more.
  for (const unsigned leaf : {CPUID_INDEX_1, CPUID_INDEX_7, CPUID_INDEX_7_ECX_1,
                              CPUID_INDEX_D_ECX_1, CPUID_INDEX_80000001}) {
    const cpuid_feature* feature = __x86_get_cpuid_feature_leaf(leaf);
    for (int i = 0; i < 4; ++i) {
      // Leaf 1's ebx holds the number of the core that libc happened to run on.
      if (leaf != CPUID_INDEX_1 || i != 1) append(out, feature->cpuid_array[i]);
    }
  }
#endif
}

}  // namespace

std::string identity_basis(const Programs& programs, const std::string& engine,
                           std::string_view options) {
  std::string basis;
  for (const char* role : {"engine", "compiler"}) {
    const std::string path = programs.engine_dir + "/libamphora-" + role + "-" + engine + ".so";
    struct stat file{};
    if (::stat(path.c_str(), &file) != 0) return "";
    for (const uint64_t value :
         {uint64_t{file.st_dev}, uint64_t{file.st_ino}, static_cast<uint64_t>(file.st_size),
          static_cast<uint64_t>(file.st_mtim.tv_sec), static_cast<uint64_t>(file.st_mtim.tv_nsec),
          static_cast<uint64_t>(file.st_ctim.tv_sec),
          static_cast<uint64_t>(file.st_ctim.tv_nsec)}) {
      append(&basis, value);
    }
  }
  append_cpu(&basis);
  basis.append(options);
  return basis;
}

std::string pack_identity(std::string_view basis, const Identity& identity) {
  std::string note(reinterpret_cast<const char*>(&identity), sizeof identity);
  return note.append(basis);
}

bool unpack_identity(std::string_view note, std::string_view basis, Identity* identity) {
  if (note.size() != sizeof *identity + basis.size() || basis.empty()) return false;
  if (note.substr(sizeof *identity) != basis) return false;
  std::memcpy(identity, note.data(), sizeof *identity);
  if (identity->size != sizeof *identity) return false;
  identity->engine[sizeof identity->engine - 1] = '\0';
  identity->version[sizeof identity->version - 1] = '\0';
  identity->layer_types[sizeof identity->layer_types - 1] = '\0';
  return true;
}

}  // namespace amphora::wasm
