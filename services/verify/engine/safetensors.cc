#include "services/verify/engine/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <set>

#include "services/verify/engine/config.h"
#include "services/verify/engine/json.h"

namespace strata::engine {
namespace {

// The format's own bound on its header, 100 MB.
constexpr uint64_t kHeaderLimit = 100'000'000;

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

Status Bad(const std::string& path, const std::string& why) {
  return Status(ErrorCode::kInvalidArgument, path + ": " + why);
}

}  // namespace

Checkpoint::~Checkpoint() {
  for (const Mapping& mapping : mappings_) munmap(mapping.address, mapping.size);
}

Result<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& model_dir) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint(model_dir));
  const std::string index = model_dir + "/model.safetensors.index.json";
  std::set<std::string> files = {"model.safetensors"};
  std::error_code error;
  if (std::filesystem::exists(index, error)) {
    auto text = ReadFile(index, 64 << 20);
    if (!text.ok()) return text.status();
    auto json = Json::Parse(*text);
    if (!json.ok()) return Bad(index, json.status().message());
    const Json* map = json->Find("weight_map");
    if (map == nullptr || map->members().empty()) return Bad(index, "\"weight_map\" is missing");
    files.clear();
    for (const auto& [tensor, file] : map->members()) {
      const std::string name = file.AsString().value_or("");
      if (name.empty() || name.find('/') != std::string::npos) {
        return Bad(index, "tensor \"" + tensor + "\" has no proper file name");
      }
      files.insert(name);
    }
  }
  for (const std::string& file : files) {
    const std::string path = (std::filesystem::path(model_dir) / file).string();
    if (Status status = checkpoint->AddFile(path); !status.ok()) return status;
  }
  return checkpoint;
}

Status Checkpoint::AddFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Status(ErrorCode::kNotFound, path + ": " + std::strerror(errno));
  struct stat info {};
  if (fstat(fd, &info) != 0 || info.st_size < 8) {
    close(fd);
    return Bad(path, "truncated: shorter than a safetensors header");
  }
  const size_t size = info.st_size;
  void* address = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (address == MAP_FAILED) {
    return Status(ErrorCode::kInternal, path + ": cannot be mapped: " + std::strerror(errno));
  }
  mappings_.push_back({address, size});

  const auto* bytes = static_cast<const std::byte*>(address);
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes, 8);
  if (header_size > kHeaderLimit || header_size > size - 8) {
    return Bad(path, "truncated or not a safetensors file: header of " +
                         std::to_string(header_size) + " bytes in a file of " +
                         std::to_string(size));
  }
  auto json = Json::Parse({reinterpret_cast<const char*>(bytes + 8), header_size});
  if (!json.ok()) return Bad(path, json.status().message());
  const std::byte* data = bytes + 8 + header_size;
  const int64_t room = static_cast<int64_t>(size - 8 - header_size);
  for (const auto& [name, entry] : json->members()) {
    if (name == "__metadata__") continue;
    StoredTensor tensor;
    const Json* type = entry.Find("dtype");
    const std::string type_name = type ? type->AsString().value_or("") : "";
    int64_t element = 2;
    if (type_name == "F32") {
      tensor.type = StoredType::kF32;
      element = 4;
    } else if (type_name == "F16") {
      tensor.type = StoredType::kF16;
    } else if (type_name == "BF16") {
      tensor.type = StoredType::kBf16;
    } else {
      std::string why = "tensor \"" + name + "\" has dtype \"";
      why.append(type_name).append("\" (F32, F16 and BF16 are supported)");
      return Bad(path, why);
    }
    int64_t count = 1;
    const Json* shape = entry.Find("shape");
    if (shape == nullptr || !shape->is_array()) return Bad(path, "\"" + name + "\" has no shape");
    for (const Json& item : shape->items()) {
      const int64_t n = item.AsInt().value_or(-1);
      if (n < 0 || __builtin_mul_overflow(count, n, &count)) {
        return Bad(path, "tensor \"" + name + "\" has a bad shape");
      }
      tensor.shape.push_back(n);
    }
    const Json* offsets = entry.Find("data_offsets");
    if (offsets == nullptr || offsets->items().size() != 2) {
      return Bad(path, "tensor \"" + name + "\" has no data_offsets");
    }
    const int64_t begin = offsets->items()[0].AsInt().value_or(-1);
    const int64_t end = offsets->items()[1].AsInt().value_or(-1);
    if (begin < 0 || end < begin || end > room) {
      return Bad(path, "truncated: tensor \"" + name + "\" ends at byte " + std::to_string(end) +
                           " of " + std::to_string(room));
    }
    if (count > (end - begin) / element || count * element != end - begin) {
      return Bad(path, "tensor \"" + name + "\" of shape " + ShapeText(tensor.shape) + " has " +
                           std::to_string(end - begin) + " bytes");
    }
    tensor.data = data + begin;
    tensor.bytes = end - begin;
    tensors_[name] = std::move(tensor);
  }
  return Status();
}

Result<StoredTensor> Checkpoint::Get(const std::string& name,
                                     const std::vector<int64_t>& shape) const {
  auto it = tensors_.find(name);
  if (it == tensors_.end()) return Bad(model_dir_, "tensor \"" + name + "\" is missing");
  if (it->second.shape != shape) {
    return Bad(model_dir_, "tensor \"" + name + "\" has shape " + ShapeText(it->second.shape) +
                               ", config.json asks for " + ShapeText(shape));
  }
  return it->second;
}

}  // namespace strata::engine
