// The driver (libcuda.so.1) of a machine without a GPU and without a CUDA runtime: device memory is host memory,
// streams run at once, a capturing stream records. Every copy is checked against what is allocated, so that a wrong
// size or a stale pointer is an error here too. Only what apa-deploy and cuda-python call is here.
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 1, NO_MEMORY = 2, NOT_FOUND = 500, CAPTURE = 901, BLOCKS = 4096, WORK = 64 };
typedef int (*callback)(void);
typedef struct { callback work[WORK]; int count; } graph;
typedef struct { graph* recording; } stream;

static struct { uintptr_t at; size_t size; } blocks[BLOCKS];
static int live, launches, pageable, limit = BLOCKS;

static int inside(uintptr_t at, size_t size) {
  for (int i = 0; i < BLOCKS; ++i)
    if (blocks[i].at && blocks[i].at <= at && at + size <= blocks[i].at + blocks[i].size) return 1;
  return 0;
}
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;  // threads of one session allocate at once
static int allocate_one(uintptr_t* at, size_t size) {
  if (live >= limit) return NO_MEMORY;
  for (int i = 0; i < BLOCKS; ++i)
    if (!blocks[i].at) {
      *at = blocks[i].at = (uintptr_t)aligned_alloc(256, (size + 255) / 256 * 256);  // as cuMemAlloc does
      blocks[i].size = size;
      ++live;
      return OK;
    }
  return NO_MEMORY;
}
static int release_one(uintptr_t at) {
  for (int i = 0; i < BLOCKS; ++i)
    if (at && blocks[i].at == at) {
      free((void*)at);
      blocks[i].at = 0;
      --live;
      return OK;
    }
  return INVALID;
}

static int allocate(uintptr_t* at, size_t size) {
  pthread_mutex_lock(&lock);
  const int error = allocate_one(at, size);
  pthread_mutex_unlock(&lock);
  return error;
}
static int release(uintptr_t at) {
  pthread_mutex_lock(&lock);
  const int error = release_one(at);
  pthread_mutex_unlock(&lock);
  return error;
}

// What the tests ask, and what the stand-in for TensorRT calls.
int standin_live(void) { return live; }
int standin_launches(void) { return launches; }
int standin_pageable(void) { return pageable; }
void standin_limit(int most) { limit = most; }
int standin_recording(stream* on) { return on && on->recording; }
int standin_enqueue(stream* on, callback work) {
  if (!on) return INVALID;
  if (!on->recording) return work();
  if (on->recording->count == WORK) return INVALID;
  on->recording->work[on->recording->count++] = work;
  return OK;
}

// The driver
int cuInit(unsigned flags) { return flags ? INVALID : OK; }
int cuDriverGetVersion(int* version) { const char* set = getenv("STANDIN_CUDA"); *version = set ? atoi(set) : 13000; return OK; }
int cuDeviceGetCount(int* count) { *count = getenv("STANDIN_NO_GPU") ? 0 : 1; return OK; }
int cuDeviceGet(int* device, int ordinal) { *device = 0; return ordinal ? INVALID : OK; }
int cuDeviceGetName(char* name, int size, int device) { strncpy(name, "Stand-in GPU", size); return device; }
int cuDeviceGetAttribute(int* value, int which, int device) {
  const char* set = getenv("STANDIN_CAPABILITY");  // such as 8.6
  const char* known = set ? set : "8.9";
  *value = which == 75 ? known[0] - '0' : which == 76 ? known[2] - '0' : 0;
  return device;
}
int cuDevicePrimaryCtxRetain(void** context, int device) { *context = &live; return device; }
int cuDevicePrimaryCtxRelease_v2(int device) { return device; }
int cuCtxSetCurrent(void* context) { return context == &live ? OK : INVALID; }
int cuMemAlloc_v2(uintptr_t* at, size_t size) { return getenv("STANDIN_NO_ROOM") ? NO_MEMORY : allocate(at, size); }
int cuMemFree_v2(uintptr_t at) { return release(at); }
// Page-locked memory. A copy from other memory that is told to be asynchronous waits for the processor: it is counted.
int cuMemAllocHost_v2(uintptr_t* at, size_t size) {
  if (getenv("STANDIN_NO_PINNED")) return NO_MEMORY;
  return allocate(at, size);
}
int cuMemFreeHost(uintptr_t at) { return release(at); }
int cuStreamCreate(stream** made, unsigned flags) { (void)flags; *made = calloc(1, sizeof(stream)); return OK; }
int cuStreamDestroy_v2(stream* on) { free(on); return on ? OK : INVALID; }
int cuStreamSynchronize(stream* on) { return on->recording ? CAPTURE : OK; }
int cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t size, stream* on) {
  if (!inside(to, size) || on->recording) return INVALID;
  pageable += !inside((uintptr_t)from, size);
  memcpy((void*)to, from, size);
  return OK;
}
int cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t size, stream* on) {
  if (!inside(from, size) || on->recording) return INVALID;
  pageable += !inside((uintptr_t)to, size);
  memcpy(to, (void*)from, size);
  return OK;
}
int cuStreamBeginCapture_v2(stream* on, int mode) {
  if (mode != 1 || on->recording) return INVALID;  // THREAD_LOCAL
  on->recording = calloc(1, sizeof(graph));
  return OK;
}
int cuStreamEndCapture(stream* on, graph** made) {
  *made = on->recording;
  on->recording = NULL;
  if (getenv("STANDIN_NO_CAPTURE")) return CAPTURE;
  return *made ? OK : INVALID;
}
int cuGraphInstantiateWithFlags(graph** made, graph* from, unsigned long long flags) {
  if (flags) return INVALID;
  *made = malloc(sizeof(graph));
  **made = *from;
  return OK;
}
int cuGraphLaunch(graph* what, stream* on) {
  if (on->recording) return INVALID;
  ++launches;
  for (int i = 0; i < what->count; ++i)
    if (what->work[i]()) return INVALID;
  return OK;
}
int cuGraphDestroy(graph* what) { free(what); return OK; }
int cuGraphExecDestroy(graph* what) { free(what); return OK; }

// Modules: the text must be whole, with one kernel of plans (plugins/tensorrt/aot), and ends in a zero. A launch runs at
// once, by the coefficients in the text. STANDIN_KERNEL_FAULT: its results are a hundredth too large.
typedef struct { char name[64]; struct { float slope, slope_low, offset, lambda, rate, rate_low; int regime, reserved; } c; } module;
int cuModuleLoadData(module** made, const char* text) {
  const char* name = strstr(text, ".visible .entry ");
  const char* listed = strstr(text, "apa_coefficients[32] = {");
  if (!name || !listed || strstr(name + 1, ".visible .entry ") || !strstr(text, ".version ")) return INVALID;
  *made = calloc(1, sizeof(module));
  sscanf(name, ".visible .entry %63[a-z0-9_]", (*made)->name);
  listed = strchr(listed, '{');
  for (int i = 0; i < 32; ++i) ((unsigned char*)&(*made)->c)[i] = (unsigned char)strtol(listed + 1, (char**)&listed, 10);
  return OK;
}
int cuModuleGetFunction(module** found, module* in, const char* name) {
  *found = in;
  return strcmp(in->name, name) ? NOT_FOUND : OK;
}
int cuModuleUnload(module* what) { free(what); return OK; }
static float read_one(const char* type, uintptr_t at, int i) {
  if (*type == 'f') return ((float*)at)[i];
  if (*type == 'h') return (float)((_Float16*)at)[i];
  const uint32_t bits = (uint32_t)((uint16_t*)at)[i] << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
static void write_one(const char* type, uintptr_t at, int i, float value) {
  if (*type == 'f') { ((float*)at)[i] = value; return; }
  if (*type == 'h') { ((_Float16*)at)[i] = (_Float16)value; return; }
  uint32_t bits;
  memcpy(&bits, &value, 4);
  ((uint16_t*)at)[i] = (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
int cuLaunchKernel(module* what, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, stream* on, void** given, void** extra) {
  if (gy * gz * by * bz != 1 || shared || !on || on->recording || extra) return INVALID;
  const uintptr_t x = *(uintptr_t*)given[0], y = *(uintptr_t*)given[2];
  const int count = *(int*)given[1];
  const char* type = strrchr(what->name, '_') + 1;
  const size_t size = *type == 'f' ? 4 : 2;
  if (!inside(x, count * size) || !inside(y, count * size)) return INVALID;
  if ((uint64_t)gx * bx * 2 * (16 / size) < (uint64_t)count) return INVALID;  // too few threads for two packs each
  const double wrong = getenv("STANDIN_KERNEL_FAULT") ? 1.01 : 1;
  for (int i = 0; i < count; ++i) {
    const double z = read_one(type, x, i);
    const double gate = exp2(what->c.rate * log1p(what->c.lambda * exp2(what->c.slope * z)) * 1.4426950408889634);
    write_one(type, y, i, (float)(wrong * (strncmp(what->name, "apa_gate", 8) ? z * gate : gate)));
  }
  return OK;
}
int cuGetProcAddress_v2(const char* name, void** found, int version, uint64_t flags, int* status) {
  static const char* const endings[] = {"_v2", "WithFlags", ""};
  char full[128];
  (void)version, (void)flags;
  for (int i = 0; i < 3; ++i) {
    strcat(strncpy(full, name, 96), endings[i]);
    if ((*found = dlsym(RTLD_DEFAULT, full)) || (*found = dlsym(dlopen("libcuda.so.1", RTLD_NOLOAD | RTLD_NOW), full))) break;
  }
  if (status) *status = *found ? 0 : 1;
  return *found ? OK : NOT_FOUND;
}
