#include "services/verify/scheduler/prefix_cache.h"

#include <algorithm>
#include <iterator>

#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace strata::verify {

uint64_t PrefixCache::DefaultHash(uint64_t before, std::span<const TokenId> tokens) {
  return absl::HashOf(before, absl::MakeConstSpan(tokens.data(), tokens.size()));
}

PrefixCache::PrefixCache(engine::Engine& engine, int64_t capacity, BlockHash hash)
    : engine_(engine),
      page_tokens_(engine.info().kv_page_tokens),
      capacity_(capacity),
      hash_(hash) {}

bool PrefixCache::Same(const Key& a, const Key& b) {
  return a.hash == b.hash && a.parent == b.parent && std::ranges::equal(a.tokens, b.tokens);
}

PrefixCache::Node* PrefixCache::Child(const Node& parent, std::span<const TokenId> block) const {
  const auto found = index_.find(Key{&parent, block, hash_(parent.hash, block)});
  return found == index_.end() ? nullptr : *found;
}

std::vector<PrefixCache::Node*> PrefixCache::Path(std::string_view tenant,
                                                  std::span<const TokenId> tokens) const {
  std::vector<Node*> path;
  const auto root = tenants_.find(absl::string_view(tenant.data(), tenant.size()));
  if (root == tenants_.end()) return path;
  const auto page = static_cast<size_t>(page_tokens_);
  for (size_t at = 0; at + page < tokens.size(); at += page) {
    Node* next = Child(path.empty() ? root->second : *path.back(), tokens.subspan(at, page));
    if (next == nullptr) break;
    path.push_back(next);
  }
  return path;
}

std::vector<const engine::KvPage*> PrefixCache::Find(std::string_view tenant,
                                                     std::span<const TokenId> tokens) const {
  return PagesOf(Path(tenant, tokens));
}

std::unique_ptr<engine::KvSequence> PrefixCache::NewSequence(std::string_view tenant,
                                                             std::span<const TokenId> tokens) {
  const std::vector<Node*> path = Path(tenant, tokens);
  if (path.empty()) return engine_.NewSequence();
  Touch(path.back());
  return engine_.NewSequence(PagesOf(path));
}

void PrefixCache::Insert(std::string_view tenant, std::span<const TokenId> tokens,
                         const engine::KvSequence& sequence) {
  const int64_t full =
      std::min(sequence.length(), static_cast<int64_t>(tokens.size())) / page_tokens_;
  const int64_t count = std::min(full, capacity_);
  if (count == 0) return;
  const auto root = tenants_.try_emplace(std::string(tenant)).first;
  root->second.tenant = &root->first;
  root->second.hash = absl::HashOf(tenant);
  Node* last = &root->second;
  for (int64_t i = 0; i < count; ++i) {
    const auto block = tokens.subspan(i * page_tokens_, page_tokens_);
    Node* next = Child(*last, block);
    if (next == nullptr) {
      // Complete before it goes into the index, should memory run out.
      std::list<Node> made(1);
      next = &made.front();
      next->parent = last;
      next->tokens.assign(block.begin(), block.end());
      next->hash = hash_(last->hash, block);
      next->page = engine_.SharePage(sequence, i);
      next->place = made.begin();
      index_.insert(next);
      nodes_.splice(nodes_.begin(), made);
      ++last->children;
    }
    last = next;
  }
  Touch(last);
  while (size() > capacity_) Remove(nodes_.begin());
}

void PrefixCache::Evict(int64_t count) {
  const int64_t enough = engine_.kv_pages_free() + std::min(count, engine_.kv_pages_kept());
  // What a node continues comes later, and may have lost its last child by then.
  for (auto node = nodes_.begin(); node != nodes_.end() && engine_.kv_pages_free() < enough;) {
    const auto next = std::next(node);
    if (node->children == 0 && !node->page->in_use()) Remove(node);
    node = next;
  }
  // Some may be left that pages in use continue: those of a sequence that computed its own beside.
  while (engine_.kv_pages_free() < enough && !nodes_.empty()) Remove(nodes_.begin());
}

std::vector<const engine::KvPage*> PrefixCache::PagesOf(const std::vector<Node*>& path) {
  std::vector<const engine::KvPage*> pages;
  pages.reserve(path.size());
  for (const Node* node : path) pages.push_back(node->page.get());
  return pages;
}

void PrefixCache::Touch(Node* node) {
  for (; node->parent != nullptr; node = node->parent) {
    nodes_.splice(nodes_.end(), nodes_, node->place);
  }
}

void PrefixCache::Remove(std::list<Node>::iterator node) {
  Node* const parent = node->parent;
  index_.erase(&*node);
  nodes_.erase(node);
  if (--parent->children == 0 && parent->parent == nullptr) {
    tenants_.erase(tenants_.find(*parent->tenant));
  }
}

}  // namespace strata::verify
