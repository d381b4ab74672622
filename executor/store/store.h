// SPDX-License-Identifier: Apache-2.0
// The state directory: ROOT/ID/{state.json,start.sock,...}, one lock per container, listing. Holds
// descriptors, not paths; every write is a rename. Not here: what the state means (runtime/).
#pragma once

#include <string>
#include <vector>

#include "executor/base/error.h"
#include "executor/base/fd.h"
#include "executor/oci/state.h"

namespace amphora {

/// One container's directory, locked exclusively (flock) while this value lives.
class Entry {
 public:
  Entry(std::string id, UniqueFd dir) : id_(std::move(id)), dir_(std::move(dir)) {}
  const std::string& id() const noexcept { return id_; }
  int dir_fd() const noexcept { return dir_.get(); }
  /// `keep` as for read_record_at.
  Result<oci::State> load(std::vector<UniqueFd>* keep = nullptr) const;
  /// `keep` and `spent`: take the descriptor, to be closed with others (sys::close_all).
  Result<void> save(const oci::State& state, std::vector<UniqueFd>* keep = nullptr);
  /// The first record of a directory just made: nobody can hold an older one that must stay whole. The file of
  /// the second is opened as well, so that its number is among those that are closed with others.
  Result<void> save_first(const oci::State& state, std::vector<UniqueFd>& spent);
  /// Ends the lock, for who closes the descriptor with others.
  UniqueFd release_dir() noexcept { return std::move(dir_); }

 private:
  std::string id_;
  UniqueFd dir_;
  UniqueFd next_;  ///< of the record to come
};

class Store {
 public:
  /// Opens ROOT, creating it (0700) when missing and `create` is set.
  static Result<Store> open(const std::string& root, bool create);
  /// kExists: "container with given ID already exists". The entry is locked.
  Result<Entry> create(const std::string& id);
  /// kNotFound: "container does not exist". Locked; waits for the present holder.
  Result<Entry> find(const std::string& id) const;
  /// Like find without taking the lock, for reading answers while a create is under way.
  Result<Entry> peek(const std::string& id) const;
  /// Removes the directory and all in it.
  Result<void> remove(Entry&& entry);
  Result<std::vector<std::string>> list() const;
  const std::string& root() const noexcept { return root_; }

 private:
  Store(std::string root, UniqueFd dir) : root_(std::move(root)), dir_(std::move(dir)) {}
  std::string root_;
  UniqueFd dir_;
};

}  // namespace amphora
