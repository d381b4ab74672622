// SPDX-License-Identifier: Apache-2.0
// See identity.h.
#include "wasm/identity.h"

#include <sys/auxv.h>
#include <sys/stat.h>

#include <cstring>

#ifdef __x86_64__
#include <cpuid.h>
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
  for (const auto [leaf, sub] : {std::pair<unsigned, unsigned>{1, 0}, {7, 0}, {7, 1}, {0xd, 1},
                                 {0x80000001, 0}}) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    __get_cpuid_count(leaf, sub, &a, &b, &c, &d);
    // Leaf 1's ebx holds the number of the core we happen to run on, 0xd's a size of state.
    if (leaf == 1 || leaf == 0xd) b = 0;
    append(out, uint64_t{a} << 32 | b);
    append(out, uint64_t{c} << 32 | d);
  }
#endif
}

}  // namespace

std::string identity_basis(const Programs& programs, const std::string& engine,
                           std::string_view options) {
  std::string basis;
  for (const char* role : {"engine", "compiler"}) {
    const std::string path = programs.engine_dir + "/libamphora-" + role + "-" + engine + ".so";
    struct stat file {};
    if (::stat(path.c_str(), &file) != 0) return "";
    for (const uint64_t value : {uint64_t{file.st_dev}, uint64_t{file.st_ino},
                                 static_cast<uint64_t>(file.st_size),
                                 static_cast<uint64_t>(file.st_mtim.tv_sec),
                                 static_cast<uint64_t>(file.st_mtim.tv_nsec),
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
  return true;
}

}  // namespace amphora::wasm
