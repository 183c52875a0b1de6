// One body compiled for three generations of x86-64, chosen as the library loads.
#ifndef APA_CLONES_H
#define APA_CLONES_H

#include <cstddef>  // any header of the C library: it defines __GLIBC__

// A test builds kernels once for each instruction set and defines APA_CLONES empty; so do the
// sanitizers, which cannot run before an ifunc is resolved.
#ifndef APA_CLONES
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define APA_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define APA_CLONES
#endif
#endif

#endif  // APA_CLONES_H
