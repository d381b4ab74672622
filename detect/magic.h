// SPDX-License-Identifier: Apache-2.0
// What the first bytes of a file say: classify(), and WatScan for the one format that has no magic,
// wasm text. Pure functions on bytes, usable in constant expressions, fuzzed. Not here: opening
// files, and whether a text really is wat (the limited compile process parses it).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace amphora::detect {

enum class Format : uint8_t {
  kElf,
  kScript,     ///< "#!"
  kWasm,       ///< core module, version 1
  kComponent,  ///< component, layer 1, version 0x0d
  kMaybeText,  ///< text so far; WatScan on the rest of the file tells whether it begins like wat
  kUnknown,
};

/// As many bytes as classify wants to see, if the file has them.
inline constexpr size_t kHeadBytes = 512;

Format classify(std::span<const std::byte> head) noexcept;

/// Walks over blanks and comments (`;;` to the end of the line, `(; ;)` nested) of a text given in
/// chunks, up to the first token, and checks that all bytes it is fed are UTF-8 without NUL.
class WatScan {
 public:
  enum class Answer : uint8_t {
    kMore,     ///< nothing but blanks and comments until now
    kParen,    ///< the first token is `(`
    kOther,    ///< the first token is something else
    kNotText,  ///< not UTF-8, or a NUL
  };

  constexpr Answer feed(std::span<const std::byte> chunk) noexcept {
    for (const auto byte : chunk) {
      const auto b = static_cast<uint8_t>(byte);
      if (!take_utf8(b)) return answer_ = Answer::kNotText;
      if (answer_ == Answer::kMore) take_token(b);
    }
    return answer_;
  }

  /// The answer once the file has ended: a lone `(` is a token after all.
  constexpr Answer end() noexcept {
    if (answer_ == Answer::kMore && state_ == State::kParen && nesting_ == 0)
      answer_ = Answer::kParen;
    return answer_;
  }

 private:
  enum class State : uint8_t {
    kBlank,
    kSemicolon,
    kLine,
    kParen,
    kBlock,
    kBlockParen,
    kBlockSemicolon
  };

  constexpr bool take_utf8(uint8_t b) noexcept;
  constexpr void take_token(uint8_t b) noexcept;
  constexpr void take_block(uint8_t b) noexcept;

  uint64_t nesting_ = 0;  ///< open `(;`; a counter, so that depth costs nothing
  State state_ = State::kBlank;
  Answer answer_ = Answer::kMore;
  uint8_t tail_ = 0;                  ///< continuation bytes to come
  uint8_t low_ = 0x80, high_ = 0xbf;  ///< bounds of the next one
};

constexpr bool WatScan::take_utf8(uint8_t b) noexcept {
  if (tail_ > 0) {
    if (b < low_ || b > high_) return false;
    --tail_;
    low_ = 0x80;
    high_ = 0xbf;
    return true;
  }
  if (b < 0x80) return b != 0;
  if (b < 0xc2 || b > 0xf4) return false;
  tail_ = b < 0xe0 ? 1 : b < 0xf0 ? 2 : 3;
  // RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
  if (b == 0xe0) low_ = 0xa0;
  if (b == 0xed) high_ = 0x9f;
  if (b == 0xf0) low_ = 0x90;
  if (b == 0xf4) high_ = 0x8f;
  return true;
}

constexpr void WatScan::take_token(uint8_t b) noexcept {
  switch (state_) {
    case State::kBlank:
      if (b == ';') {
        state_ = State::kSemicolon;
      } else if (b == '(') {
        state_ = State::kParen;
      } else if (b != ' ' && b != '\t' && b != '\n' && b != '\r') {
        answer_ = Answer::kOther;
      }
      return;
    case State::kSemicolon:
      if (b == ';') {
        state_ = State::kLine;
      } else {
        answer_ = Answer::kOther;
      }
      return;
    case State::kLine:
      if (b == '\n' || b == '\r') state_ = State::kBlank;
      return;
    case State::kParen:
      if (b == ';') {
        state_ = State::kBlock;
        nesting_ = 1;
      } else {
        answer_ = Answer::kParen;
      }
      return;
    case State::kBlock:
    case State::kBlockParen:
    case State::kBlockSemicolon:
      take_block(b);
      return;
  }
}

constexpr void WatScan::take_block(uint8_t b) noexcept {
  if (state_ == State::kBlockParen && b == ';') {
    ++nesting_;
    state_ = State::kBlock;
  } else if (state_ == State::kBlockSemicolon && b == ')') {
    state_ = --nesting_ == 0 ? State::kBlank : State::kBlock;
  } else if (b == '(') {
    state_ = State::kBlockParen;
  } else {
    state_ = b == ';' ? State::kBlockSemicolon : State::kBlock;
  }
}

/// "68 65 6c 6c" of up to `limit` bytes.
std::string hex(std::span<const std::byte> bytes, size_t limit);
/// Why a head is neither a module nor a component, in words: "first bytes are 68 65 6c 6c", "header
/// cut short after 5 bytes: 00 61 73 6d 01", "unknown version 02 00 00 00", "file is empty".
std::string why_not_wasm(std::span<const std::byte> head);

}  // namespace amphora::detect
