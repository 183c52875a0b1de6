// Stands where the NVIDIA driver stands: one L4 and a driver for CUDA 12.4, or another that -DSERVES= names.
#include <string.h>

#ifndef SERVES
#define SERVES 12040
#endif

int cuInit(unsigned flags) { return flags != 0; }
int cuDriverGetVersion(int* version) { return *version = SERVES, 0; }
int cuDeviceGetCount(int* count) { return *count = 1, 0; }
int cuDeviceGet(int* device, int number) { return *device = number + 7, number != 0; }
int cuDeviceGetName(char* name, int length, int device) {
  strncpy(name, device == 7 ? "NVIDIA L4" : "another device", (size_t)length);
  return 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  *value = attribute == 75 ? 8 : attribute == 76 ? 9 : -1;
  return device != 7;
}
