#include "services/draft/tiers/chain_collector.h"

#include <algorithm>

namespace strata::draft {
namespace {

bool IsPrefix(std::span<const TokenId> prefix, std::span<const TokenId> tokens) {
  return prefix.size() <= tokens.size() && std::equal(prefix.begin(), prefix.end(), tokens.begin());
}

}  // namespace

ChainCollector::ChainCollector(int max_chains, int chain_length, std::vector<Chain>& out)
    : max_chains_(max_chains),
      chain_length_(chain_length),
      out_(out),
      begin_(out.size()),
      order_begin_(out.size()) {}

void ChainCollector::BeginOrder(int matched) {
  matched_ = matched;
  order_begin_ = out_.size();
  total_ = 0;
  counts_.clear();
}

bool ChainCollector::Add(std::span<const TokenId> continuation) {
  if (continuation.empty()) return true;
  ++total_;
  const auto it = std::find_if(counts_.begin(), counts_.end(), [&](const auto& entry) {
    return entry.first == continuation.front();
  });
  if (it == counts_.end()) {
    counts_.emplace_back(continuation.front(), 1);
  } else {
    ++it->second;
  }
  Keep(continuation.first(std::min<size_t>(continuation.size(), chain_length_)));
  return total_ < kMaxOccurrences;
}

void ChainCollector::Keep(std::span<const TokenId> continuation) {
  for (size_t i = begin_; i < out_.size(); ++i) {
    if (IsPrefix(continuation, out_[i].tokens)) return;
  }
  for (size_t i = begin_; i < out_.size(); ++i) {
    if (IsPrefix(out_[i].tokens, continuation)) {
      out_[i].tokens.assign(continuation.begin(), continuation.end());
      return;
    }
  }
  if (full()) return;
  Chain& chain = out_.emplace_back();
  chain.tokens.assign(continuation.begin(), continuation.end());
  chain.matched = matched_;
}

void ChainCollector::EndOrder() {
  for (size_t i = order_begin_; i < out_.size(); ++i) {
    out_[i].total = total_;
    for (const auto& [token, count] : counts_) {
      if (token == out_[i].tokens.front()) out_[i].count = count;
    }
  }
}

void LookupIndexes(std::span<const NgramIndex* const> indexes, std::span<const TokenId> context,
                   int max_chains, int chain_length, std::vector<Chain>& out) {
  if (max_chains <= 0 || chain_length <= 0) return;
  std::vector<NgramIndex::Match> matches;
  matches.reserve(indexes.size());
  int longest = 0;
  for (const NgramIndex* index : indexes) {
    matches.push_back(index->Find(context));
    longest = std::max(longest, matches.back().longest);
  }
  ChainCollector collector(max_chains, chain_length, out);
  for (int order = longest; order >= 1 && !collector.full(); --order) {
    collector.BeginOrder(order);
    bool more = true;
    for (size_t i = 0; i < indexes.size() && more; ++i) {
      if (matches[i].longest < order) continue;
      uint32_t position = matches[i].last[order - 1];
      while (more && position != NgramIndex::kNone) {
        more = collector.Add(indexes[i]->Continuation(position, chain_length));
        position = indexes[i]->Previous(order, position);
      }
    }
    collector.EndOrder();
  }
}

}  // namespace strata::draft
