#ifndef STRATA_SERVICES_VERIFY_ENGINE_SAFETENSORS_H_
#define STRATA_SERVICES_VERIFY_ENGINE_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "services/verify/engine/status.h"

namespace strata::engine {

enum class StoredType { kF32, kF16, kBf16 };

// A tensor in a mapped file; valid as long as the Checkpoint.
struct StoredTensor {
  StoredType type = StoredType::kF32;
  std::vector<int64_t> shape;
  const std::byte* data = nullptr;  // row-major; may be unaligned
  int64_t bytes = 0;
};

// The weights of a model folder: model.safetensors, or the shards that
// model.safetensors.index.json names. Files are mapped, not read. Immutable.
class Checkpoint {
 public:
  // NOT_FOUND for a missing file; INVALID_ARGUMENT, naming file and tensor, for a
  // header that is damaged or does not fit the file's size.
  static Result<std::unique_ptr<Checkpoint>> Open(const std::string& model_dir);
  ~Checkpoint();
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;

  bool Has(const std::string& name) const { return tensors_.contains(name); }
  // INVALID_ARGUMENT if there is no such tensor or its shape is another.
  Result<StoredTensor> Get(const std::string& name, const std::vector<int64_t>& shape) const;

 private:
  struct Mapping {
    void* address = nullptr;
    size_t size = 0;
  };
  explicit Checkpoint(std::string model_dir) : model_dir_(std::move(model_dir)) {}
  Status AddFile(const std::string& path);

  const std::string model_dir_;
  std::vector<Mapping> mappings_;
  std::map<std::string, StoredTensor> tensors_;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_SAFETENSORS_H_
