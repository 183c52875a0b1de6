"""Faults to plant in the plugin's sources (planting.py); the tests must see every one."""

from planting import Fault

SCALAR, LANES, SPANS, PLANES = (f"tensorrt/kernels/{name}.cuh" for name in ("scalar", "lanes", "spans", "planes"))
PACK, PADDING, TABLE = (f"tensorrt/kernels/{name}.cuh" for name in ("pack", "padding", "table"))
DEVICE_MATH, MATHS, KERNELS = "tensorrt/kernels/device_math.cuh", "include/apa/math.h", "tensorrt/kernels.cu"
LAYOUT, ACTIVATION, FIELDS = "tensorrt/layout.cc", "tensorrt/activation.cc", "tensorrt/fields.cc"
FORMATS, MEMORY = "tensorrt/formats.cc", "tensorrt/device_memory.cc"
PLUGIN, RUNTIME = "tensorrt/plugin.cc", "tensorrt/plugin_runtime.cc"

FAULTS = [
    # index
    Fault("packs in flight side by side", SCALAR, "packs_of(x)[@i + u * stride@]", "i + u"),
    Fault("half the threads", PACK, "blockDim.x + @threadIdx.x@", "threadIdx.x / 2"),
    Fault("32-bit thread number", SPANS, "int64_t me = @thread_number()@;", "(int32_t)thread_number()"),
    Fault("no wrap of lanes", LANES, "@lane + 1 == lanes ? 0 : lane + 1@", "lane + 1"),
    Fault("first lane without the pack", LANES, "@me * Pack<T>::kSize % lanes@", "me % lanes"),
    Fault("span one too long", SPANS, "@at.offset >= walk.span@", "at.offset > walk.span"),
    Fault("groups without wrap", SPANS, "if (@at.groups >= walk.groups@)", "at.groups > walk.groups"),
    Fault("lanes ignored", SPANS, "@(at.offset & (walk.lanes - 1))@", "0"),
    Fault("signed table index", TABLE, "entry[@static_cast<uint8_t>(x[k])@]", "static_cast<int8_t>(x[k]) & 127"),
    Fault(
        "pack beyond its plane", PLANES, "@cursor.at.offset + kSize > walk.span@", "cursor.at.offset > walk.span"
    ),
    Fault("ends of planes forgotten", PLANES, "@plane * walk.span < whole@", "false"),
    Fault("the end of a plane in the one before", PLANES, "@k < end@ ? before", "k <= end"),
    # tail
    Fault("tail of planes", PLANES, "channels[@tail.at.groups@]", "0"),
    Fault("tail starts late", SCALAR, "packs * Pack<T>::kSize + @me@;", "me + 1"),
    Fault("last lap forgotten", SCALAR, "for (; @i < packs@; i += stride)", "i + stride < packs"),
    Fault(
        "lap beyond the end",
        SCALAR,
        "@i + (kUnrolled - 1) * stride < packs@",
        "i + (kUnrolled - 1) * stride <= packs",
    ),
    Fault("tail of lanes", LANES, "channels[@k % lanes@]", "0"),
    # stride
    Fault("stride with a gap", PACK, "(gridDim.x) * @blockDim.x@", "blockDim.x + 1"),
    Fault("tail with the pack's stride", SPANS, "cursor.move(@stride_one@)", "stride"),
    Fault("stride without whole rows", KERNELS, "@(blocks + period - 1) / period * period@", "blocks"),
    Fault("groups of a step not wrapped", SPANS, "elements / walk.span % @walk.groups@", "64"),
    # alignment, order of work
    Fault("any alignment taken for packs", KERNELS, "% @kPackBytes@ == 0", "2"),
    Fault("table not waited for", TABLE, "@__syncthreads();@", ""),
    Fault("zero elements run", KERNELS, "@if (job.layout.count == 0) return cudaSuccess;@", ""),
    Fault("elements out of turn", SCALAR, "@take_turn(dependent);@", ""),
    Fault("lanes out of turn", LANES, "@take_turn(dependent);@", ""),
    Fault("planes out of turn", PLANES, "@take_turn(dependent);@", ""),
    Fault("spans out of turn", SPANS, "@take_turn(dependent);@", ""),
    Fault("padding out of turn", PADDING, "@take_turn(dependent);@", ""),
    Fault("dependent where it cannot wait", KERNELS, "@capability >= kWaitsFrom@", "true"),
    # layout, padding
    Fault("vectors rounded down", LAYOUT, "@(channels + vector - 1) / vector@", "channels / vector"),
    Fault("dimension behind the vector's", LAYOUT, "@axis > along ? axis - 1 : axis@", "axis"),
    Fault("padding from the start", PADDING, "@padding.keep + k % width@", "k % width"),
    Fault(
        "padding of the first group",
        PADDING,
        "@row / padding.rows * padding.groups + padding.groups - 1@",
        "row / padding.rows * padding.groups",
    ),
    Fault(
        "padding of the unit cleared, not the gate's",
        KERNELS,
        "@job.kind == Kind::Gate@ && job",
        "job.kind == Kind::Unit",
    ),
    Fault("HWC8 as HWC16", FORMATS, "kHWC8: return Format{Order::VectorMinor, @8@, 3}", "16"),
    Fault("CDHW32 along another dimension", FORMATS, "Order::VectorMajor, 32, @4@", "3"),
    # clamp, constant, rounding
    Fault("clamp one short", ACTIVATION, "std::max(@-128.0@, steps)", "-127.0"),
    Fault("rounded towards zero", ACTIVATION, "@std::nearbyint(value / scale)@", "std::trunc(value / scale)"),
    Fault("half rounded towards zero", PACK, "@__float2half_rn(x)@", "__float2half_rz(x)"),
    Fault("log2(e) in the sixth digit", MATHS, "-kappa * @1.4426950408889634074@", "1.4426980408889634074"),
    Fault("a coefficient in the fourth digit", MATHS, "@-7.213437557e-01f@", "-7.214437557e-01f"),
    Fault("regimes change too late", MATHS, "constexpr double kLargeFrom = @0.25@", "25"),
    Fault(
        "regimes confused",
        ACTIVATION,
        "@c.regime == Regime::Small ? c.lambda : c.offset@",
        "c.regime == Regime::Small ? c.offset : c.lambda",
    ),
    Fault(
        "gate for unit",
        DEVICE_MATH,
        "@kKind == Kind::Gate ? gate<DeviceMath>(z, c) : unit<DeviceMath>(z, c)@",
        "kKind == Kind::Gate ? unit<DeviceMath>(z, c) : gate<DeviceMath>(z, c)",
    ),
    # fields, life of the plugin
    Fault(
        "lambda and kappa exchanged",
        FIELDS,
        'required(*fields, @"lambda"@)), floats(required(*fields, @"kappa"@))',
        ('"kappa"', '"lambda"'),
    ),
    Fault("lambda 0 refused", FIELDS, "return @v < 0@;", "v <= 0"),
    Fault("infinity accepted", FIELDS, "if (@!fits@)", "value != value"),
    Fault("axis not kept", FIELDS, "@p.channels() > 1 && p.axis != 1@", "p.channels() > 1 && p.axis > 1"),
    Fault(
        "another output format accepted", PLUGIN, "@a.type == b.type && a.format == b.format@", "a.type == b.type"
    ),
    Fault("channels not checked", PLUGIN, "@dims.d[along] == channels@ ||", "dims.d[along] >= 1"),
    Fault(
        "old table after a new scale",
        MEMORY,
        "@data_ && held_.size() == size && std::equal(held_.begin(), held_.end(), bytes)@",
        "data_ && held_.size() == size",
    ),
    Fault("upload not waited for", MEMORY, "end = @cudaStreamSynchronize(own)@", "cudaSuccess"),
    Fault("enqueue after a refusal", RUNTIME, "@prepared_ = false;@\n  if (!in", ""),
]
