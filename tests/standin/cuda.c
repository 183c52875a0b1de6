// The driver (libcuda.so.1) of a machine without a GPU and without a CUDA runtime: device memory is host memory,
// streams run at once, a capturing stream records. Every copy is checked against what is allocated, so that a wrong
// size or a stale pointer is an error here too. Only what apa-deploy and cuda-python call is here.
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 1, NO_MEMORY = 2, NOT_FOUND = 500, CAPTURE = 901, BLOCKS = 4096, WORK = 64 };
typedef int (*callback)(void);
typedef struct { callback work[WORK]; int count; } graph;
typedef struct { graph* recording; } stream;

static struct { uintptr_t at; size_t size; } blocks[BLOCKS];
static int live, launches, limit = BLOCKS;

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
int cuMemAlloc_v2(uintptr_t* at, size_t size) { return allocate(at, size); }
int cuMemFree_v2(uintptr_t at) { return release(at); }
int cuStreamCreate(stream** made, unsigned flags) { (void)flags; *made = calloc(1, sizeof(stream)); return OK; }
int cuStreamDestroy_v2(stream* on) { free(on); return on ? OK : INVALID; }
int cuStreamSynchronize(stream* on) { return on->recording ? CAPTURE : OK; }
int cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t size, stream* on) {
  if (!inside(to, size) || on->recording) return INVALID;
  memcpy((void*)to, from, size);
  return OK;
}
int cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t size, stream* on) {
  if (!inside(from, size) || on->recording) return INVALID;
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
