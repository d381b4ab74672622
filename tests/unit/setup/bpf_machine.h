// SPDX-License-Identifier: Apache-2.0
// A machine for the classic BPF of seccomp filters, so that tests can ask a program about any syscall
// of any architecture. It knows the instructions that the kernel allows there and that our two
// generators use; anything else fails the test, as the kernel would refuse the program.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstring>
#include <span>

#include <gtest/gtest.h>

namespace amphora::setup {

class BpfMachine {
 public:
  explicit BpfMachine(std::span<const sock_filter> program) : program_(program) {}

  /// The filter's answer; fails the test when the program runs off its end.
  uint32_t run(const seccomp_data& data) const {
    uint32_t a = 0;
    for (size_t at = 0; at < program_.size(); ++at) {
      const sock_filter& i = program_[at];
      switch (i.code) {
        case BPF_LD | BPF_W | BPF_ABS:
          a = word(data, i.k);
          break;
        case BPF_ALU | BPF_AND | BPF_K:
          a &= i.k;
          break;
        case BPF_JMP | BPF_JA:
          at += i.k;
          break;
        case BPF_JMP | BPF_JEQ | BPF_K:
          at += a == i.k ? i.jt : i.jf;
          break;
        case BPF_JMP | BPF_JGT | BPF_K:
          at += a > i.k ? i.jt : i.jf;
          break;
        case BPF_JMP | BPF_JGE | BPF_K:
          at += a >= i.k ? i.jt : i.jf;
          break;
        case BPF_JMP | BPF_JSET | BPF_K:
          at += (a & i.k) != 0 ? i.jt : i.jf;
          break;
        case BPF_RET | BPF_K:
          return i.k;
        default:
          ADD_FAILURE() << "instruction " << at << " has code " << i.code;
          return 0;
      }
    }
    ADD_FAILURE() << "the program has no end";
    return 0;
  }

 private:
  static uint32_t word(const seccomp_data& data, uint32_t offset) {
    if (offset % 4 != 0 || offset + 4 > sizeof data) {
      ADD_FAILURE() << "load from " << offset;
      return 0;
    }
    uint32_t value = 0;
    std::memcpy(&value, reinterpret_cast<const char*>(&data) + offset, sizeof value);
    return value;
  }
  std::span<const sock_filter> program_;
};

}  // namespace amphora::setup
