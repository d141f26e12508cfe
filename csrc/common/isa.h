// Instruction-set dispatch. Every csrc/<op>/cpu.cpp is compiled once an instruction set, with
// PCDARTS_ISA set to its name, and exports one table of function pointers; the choice among the
// tables is made once, by cpuid or by the environment variable PCDARTS_ISA.
//
//   cpu.h    struct AddKernels { void (*forward)(const Add&, int64_t begin, int64_t end); };
//            const AddKernels& add_kernels();              // of the instruction set in use
//   cpu.cpp  namespace pcdarts::PCDARTS_ISA { namespace { void forward(...) { ... } } }
//            PCDARTS_KERNELS(AddKernels, add_kernels, forward)
//
// The trap: two objects that both contain the same inline function or template instance with
// external linkage are merged by the linker, and which copy wins is chance. A baseline machine may
// then run AVX-512 code. So all code in cpu.cpp, and in what it includes, is in an anonymous
// namespace, in namespace PCDARTS_ISA, or static (PCDARTS_HD), and uses no std:: container or
// algorithm. The test symbols.<isa> reads the objects and holds them to it.
#pragma once

namespace pcdarts {

enum class Isa { baseline, avx2, avx512 };

// The instruction set in use. Throws std::invalid_argument where PCDARTS_ISA names none that this
// machine has.
Isa active_isa();

// Whether this build has kernels for it and this machine can run them.
bool has_isa(Isa isa);

const char* isa_name(Isa isa);

}  // namespace pcdarts

#ifdef PCDARTS_X86_ISAS
#define PCDARTS_TABLES_(Table, name) \
  namespace avx2 {                   \
  extern const Table name;           \
  }                                  \
  namespace avx512 {                 \
  extern const Table name;           \
  }
#define PCDARTS_TABLE_OF_(isa, name)              \
  (isa) == ::pcdarts::Isa::avx512 ? &avx512::name \
  : (isa) == ::pcdarts::Isa::avx2 ? &avx2::name   \
                                  : &baseline::name
#else
#define PCDARTS_TABLES_(Table, name)
#define PCDARTS_TABLE_OF_(isa, name) ((void)(isa), &baseline::name)
#endif

// Only the baseline object, which is safe everywhere, holds the function that chooses.
#ifdef PCDARTS_ISA_CHOOSES
#define PCDARTS_CHOICE_(Table, name)                                          \
  namespace pcdarts {                                                         \
  PCDARTS_TABLES_(Table, name)                                                \
  const Table& name() {                                                       \
    static const Table* const chosen = PCDARTS_TABLE_OF_(active_isa(), name); \
    return *chosen;                                                           \
  }                                                                           \
  }
#else
#define PCDARTS_CHOICE_(Table, name)
#endif

// Last line of cpu.cpp: the table of this instruction set, its members in order.
#define PCDARTS_KERNELS(Table, name, ...) \
  namespace pcdarts::PCDARTS_ISA {        \
  extern const Table name;                \
  const Table name = {__VA_ARGS__};       \
  }                                       \
  PCDARTS_CHOICE_(Table, name)
