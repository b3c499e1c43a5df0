#ifndef STRATA_SERVICES_VERIFY_SCHEDULER_PREFIX_CACHE_H_
#define STRATA_SERVICES_VERIFY_SCHEDULER_PREFIX_CACHE_H_

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/container/node_hash_map.h"
#include "common/tokenizer/tokenizer.h"
#include "services/verify/engine/engine.h"

namespace strata::verify {

// Full KV pages of what sequences began with (system prompts, earlier turns), for others that begin
// with the same tokens: a tree a tenant, one page a node. A page is found only by exactly the
// tokens it was computed from, all those before it included, and only by the tenant whose request
// computed it: how long a prompt takes tells nobody of another's prompts.
//
// Holds on to at most `capacity` pages; what was used longest ago goes first, and a page after all
// that continue it. Not thread-safe; on the engine's thread, and destroyed before the engine.
class PrefixCache {
 public:
  // The hash of one page's tokens behind those whose hash is `before`. Any function is right.
  using BlockHash = uint64_t (*)(uint64_t before, std::span<const TokenId> tokens);
  static uint64_t DefaultHash(uint64_t before, std::span<const TokenId> tokens);

  // Capacity 0: nothing is ever held or found. Nobody else may hold pages of `engine` by handle.
  PrefixCache(engine::Engine& engine, int64_t capacity, BlockHash hash = DefaultHash);
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // The pages of the longest prefix of `tokens` that is here, without the last token: there is
  // always one left to compute logits from. Valid until a call that is not const.
  std::vector<const engine::KvPage*> Find(std::string_view tenant,
                                          std::span<const TokenId> tokens) const;
  // A sequence that begins with those pages, which are now the latest used.
  std::unique_ptr<engine::KvSequence> NewSequence(std::string_view tenant,
                                                  std::span<const TokenId> tokens);
  // Holds on to the full pages of `sequence`, which has committed `tokens`, or more or fewer of
  // them. Pages that are here already stay as they are.
  void Insert(std::string_view tenant, std::span<const TokenId> tokens,
              const engine::KvSequence& sequence);
  // Lets go of pages until `count` more are free, or all are that no sequence uses.
  void Evict(int64_t count);

  int64_t capacity() const { return capacity_; }
  // Pages held on to.
  int64_t size() const { return static_cast<int64_t>(nodes_.size()); }

 private:
  struct Node {
    // Null for a tenant's root, which has neither tokens nor a page.
    Node* parent = nullptr;
    std::vector<TokenId> tokens;
    uint64_t hash = 0;
    std::unique_ptr<engine::KvPage> page;
    int64_t children = 0;
    std::list<Node>::iterator place;
    // Of a root.
    const std::string* tenant = nullptr;
  };
  struct Key {
    const Node* parent;
    std::span<const TokenId> tokens;
    uint64_t hash;
  };
  static Key KeyOf(const Node* node) { return {node->parent, node->tokens, node->hash}; }
  static const Key& KeyOf(const Key& key) { return key; }
  struct HashOf {
    using is_transparent = void;
    template <typename T>
    size_t operator()(const T& value) const {
      return static_cast<size_t>(KeyOf(value).hash);
    }
  };
  // Equal nodes have equal parents, so all tokens from the first on are compared.
  struct Equal {
    using is_transparent = void;
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return Same(KeyOf(a), KeyOf(b));
    }
  };
  static bool Same(const Key& a, const Key& b);

  Node* Child(const Node& parent, std::span<const TokenId> block) const;
  // The nodes that Find speaks of, the first page's first.
  std::vector<Node*> Path(std::string_view tenant, std::span<const TokenId> tokens) const;
  static std::vector<const engine::KvPage*> PagesOf(const std::vector<Node*>& path);
  // Makes `node` and what it continues the latest used.
  void Touch(Node* node);
  void Remove(std::list<Node>::iterator node);

  engine::Engine& engine_;
  const int64_t page_tokens_;
  const int64_t capacity_;
  const BlockHash hash_;
  // Roots have children, always.
  absl::node_hash_map<std::string, Node> tenants_;
  // By their last use, longest ago first. A node stands before the one it continues, so that the
  // first has no children.
  std::list<Node> nodes_;
  absl::flat_hash_set<Node*, HashOf, Equal> index_;
};

}  // namespace strata::verify

#endif  // STRATA_SERVICES_VERIFY_SCHEDULER_PREFIX_CACHE_H_
