"""Faults to plant in the plugin's sources, one at a time; the tests must see every one.

Each row: what is wrong, the file below plugins/, the text (it occurs once), what it becomes.
"""

SCALAR, LANES, SPANS = (f"tensorrt/kernels/{name}.cuh" for name in ("scalar", "lanes", "spans"))
PACK, PADDING, TABLE = (f"tensorrt/kernels/{name}.cuh" for name in ("pack", "padding", "table"))
DEVICE_MATH, MATHS, KERNELS = "tensorrt/kernels/device_math.cuh", "include/apa/math.h", "tensorrt/kernels.cu"
LAYOUT, ACTIVATION, FIELDS = "tensorrt/layout.cc", "tensorrt/activation.cc", "tensorrt/fields.cc"
FORMATS, MEMORY = "tensorrt/formats.cc", "tensorrt/device_memory.cc"
PLUGIN, RUNTIME = "tensorrt/plugin.cc", "tensorrt/plugin_runtime.cc"

FAULTS = [
    # index
    ("packs in flight side by side", SCALAR, "packs_of(x)[i + u * stride]", "packs_of(x)[i + u]"),
    ("half the threads", PACK, "blockDim.x + threadIdx.x", "blockDim.x + threadIdx.x / 2"),
    (
        "32-bit thread number",
        SPANS,
        "int64_t me = thread_number();",
        "int64_t me = (int32_t)thread_number();",
    ),
    ("no wrap of lanes", LANES, "lane + 1 == lanes ? 0 : lane + 1", "lane + 1"),
    ("first lane without the pack", LANES, "me * Pack<T>::kSize % lanes", "me % lanes"),
    ("span one too long", SPANS, "at.offset >= walk.span", "at.offset > walk.span"),
    ("groups without wrap", SPANS, "if (at.groups >= walk.groups)", "if (at.groups > walk.groups)"),
    ("lanes ignored", SPANS, "(at.offset & (walk.lanes - 1))", "0"),
    (
        "signed table index",
        TABLE,
        "entry[static_cast<uint8_t>(x[k])]",
        "entry[static_cast<int8_t>(x[k]) & 127]",
    ),
    # tail
    ("tail starts late", SCALAR, "packs * Pack<T>::kSize + me;", "packs * Pack<T>::kSize + me + 1;"),
    (
        "last lap forgotten",
        SCALAR,
        "for (; i < packs; i += stride)",
        "for (; i + stride < packs; i += stride)",
    ),
    ("lap beyond the end", SCALAR, "(kUnrolled - 1) * stride < packs", "(kUnrolled - 1) * stride <= packs"),
    ("tail of lanes", LANES, "channels[k % lanes]", "channels[0]"),
    # stride
    ("stride with a gap", PACK, "(gridDim.x) * blockDim.x", "(gridDim.x) * (blockDim.x + 1)"),
    ("tail with the pack's stride", SPANS, "cursor.move(stride_one)", "cursor.move(stride)"),
    ("stride without whole rows", KERNELS, "(blocks + period - 1) / period * period", "blocks"),
    (
        "groups of a step not wrapped",
        SPANS,
        "elements / walk.span % walk.groups",
        "elements / walk.span % 64",
    ),
    # alignment, order of work
    ("any alignment taken for packs", KERNELS, "% kPackBytes == 0", "% 2 == 0"),
    ("table not waited for", TABLE, "  __syncthreads();\n", ""),
    ("zero elements run", KERNELS, "  if (job.layout.count == 0) return cudaSuccess;\n", ""),
    # layout, padding
    ("vectors rounded down", LAYOUT, "(channels + vector - 1) / vector", "channels / vector"),
    ("dimension behind the vector's", LAYOUT, "axis > along ? axis - 1 : axis", "axis"),
    ("padding from the start", PADDING, "padding.keep + k % width", "k % width"),
    ("padding of the first group", PADDING, "padding.groups + padding.groups - 1", "padding.groups"),
    (
        "padding of the unit cleared, not the gate's",
        KERNELS,
        "job.kind == Kind::Gate && job",
        "job.kind == Kind::Unit && job",
    ),
    ("HWC8 as HWC16", FORMATS, "Order::VectorMinor, 8, 3", "Order::VectorMinor, 16, 3"),
    ("CDHW32 along another dimension", FORMATS, "Order::VectorMajor, 32, 4", "Order::VectorMajor, 32, 3"),
    # clamp, constant, rounding
    ("clamp one short", ACTIVATION, "std::max(-128.0, steps)", "std::max(-127.0, steps)"),
    ("rounded towards zero", ACTIVATION, "std::nearbyint(value / scale)", "std::trunc(value / scale)"),
    ("half rounded towards zero", PACK, "__float2half_rn", "__float2half_rz"),
    ("log2(e) in the sixth digit", MATHS, "1.4426950408889634074;  // log2(e)", "1.4426980408889634074;"),
    ("a coefficient in the fourth digit", MATHS, "-7.213437557e-01f", "-7.214437557e-01f"),
    ("regimes change too late", MATHS, "kLargeFrom = 0.25", "kLargeFrom = 25"),
    ("regimes confused", ACTIVATION, "c.lambda : c.offset", "c.offset : c.lambda"),
    (
        "gate for unit",
        DEVICE_MATH,
        "? gate<DeviceMath>(z, c) : unit<DeviceMath>(z, c)",
        "? unit<DeviceMath>(z, c) : gate<DeviceMath>(z, c)",
    ),
    # fields, life of the plugin
    (
        "lambda and kappa exchanged",
        FIELDS,
        'floats(required(*fields, "lambda")), floats(required(*fields, "kappa"))',
        'floats(required(*fields, "kappa")), floats(required(*fields, "lambda"))',
    ),
    ("lambda 0 refused", FIELDS, "return v < 0;", "return v <= 0;"),
    ("infinity accepted", FIELDS, "if (!fits)", "if (value != value)"),
    ("axis not kept", FIELDS, "p.channels() > 1 && p.axis != 1", "p.channels() > 1 && p.axis > 1"),
    (
        "another output format accepted",
        PLUGIN,
        "a.type == b.type && a.format == b.format",
        "a.type == b.type",
    ),
    ("channels not checked", PLUGIN, "dims.d[along] == channels ||", "dims.d[along] >= 1 ||"),
    (
        "old table after a new scale",
        MEMORY,
        "data_ && held_.size() == size && std::equal(held_.begin(), held_.end(), bytes)",
        "data_ && held_.size() == size",
    ),
    ("enqueue after a refusal", RUNTIME, "  prepared_ = false;\n  if (!in", "  if (!in"),
]
