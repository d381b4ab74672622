// SPDX-License-Identifier: Apache-2.0
//! Cargo wants a target; the package is there for its lock file alone.
