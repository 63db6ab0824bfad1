#include <gtest/gtest.h>

#include <cstdio>

#include "diversion.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (std::string error = weir::bpf_test::prepare_process(); !error.empty()) {
    std::fprintf(stderr, "bpf_test: %s\n", error.c_str());
    return 1;
  }
  int result = RUN_ALL_TESTS();
  weir::bpf_test::uninstall_shared();
  return result;
}
