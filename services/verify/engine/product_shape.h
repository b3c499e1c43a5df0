#ifndef STRATA_SERVICES_VERIFY_ENGINE_PRODUCT_SHAPE_H_
#define STRATA_SERVICES_VERIFY_ENGINE_PRODUCT_SHAPE_H_

#include <cstdint>

namespace strata::engine {

// Of rows with a weight.
//
// Gated products, of a weight whose rows are gates and as many others: each panel has gates in its
// first half and in its second what they are for, so that out / 2 is a multiple of half a panel.
// Sums are rounded to bf16 as those of other products are, so that one does not tell a gated
// product from SiluMultiply behind a product.
struct ProductShape {
  int64_t rows;
  int64_t in;
  int64_t out;
};

}  // namespace strata::engine

#endif  // STRATA_SERVICES_VERIFY_ENGINE_PRODUCT_SHAPE_H_
