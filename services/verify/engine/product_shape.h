#ifndef STRATA_SERVICES_VERIFY_ENGINE_PRODUCT_SHAPE_H_
#define STRATA_SERVICES_VERIFY_ENGINE_PRODUCT_SHAPE_H_

#include <cstdint>

namespace strata::engine {

// Of rows with a weight.
struct ProductShape {
  int64_t rows;
  int64_t in;
  int64_t out;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_PRODUCT_SHAPE_H_
