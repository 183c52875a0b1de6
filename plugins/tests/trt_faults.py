"""Faults to plant in the plugin's sources (planting.py); the tests must see every one."""

from planting import Fault

SCALAR, LANES, SPANS, PLANES = (f"tensorrt/kernels/{name}.cuh" for name in ("scalar", "lanes", "spans", "planes"))
PACK, PADDING = (f"tensorrt/kernels/{name}.cuh" for name in ("pack", "padding"))
DEVICE_MATH, DISPATCH = (f"tensorrt/kernels/{name}.cuh" for name in ("device_math", "dispatch"))
MATHS, KERNELS = "include/apa/math.h", "tensorrt/kernels.cu"
LAYOUT, ACTIVATION, FIELDS = "tensorrt/layout.cc", "tensorrt/activation.cc", "tensorrt/fields.cc"
FORMATS, MEMORY = "tensorrt/formats.cc", "tensorrt/device_memory.cc"
PLUGIN, PLUGIN_H, RUNTIME = "tensorrt/plugin.cc", "tensorrt/plugin.h", "tensorrt/plugin_runtime.cc"

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
    Fault("stride without whole rows", DISPATCH, "@(blocks + period - 1) / period * period@", "blocks"),
    Fault("groups of a step not wrapped", SPANS, "elements / walk.span % @walk.groups@", "64"),
    # alignment, order of work
    Fault("any alignment taken for packs", DISPATCH, "% @kPackBytes@ == 0", "2"),
    Fault("codes taken for packs at any address", DISPATCH, "(y) % @sizeof(Results<T, To>)@", "1"),
    Fault("zero elements run", DISPATCH, "@if (job.layout.count == 0) return cudaSuccess;@", ""),
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
        DISPATCH,
        "cudaSuccess && @gate@ && r.job",
        "!gate",
    ),
    Fault("HWC8 as HWC16", FORMATS, "kHWC8: return Format{Order::VectorMinor, @8@, 3}", "16"),
    Fault("CDHW32 along another dimension", FORMATS, "Order::VectorMajor, 32, @4@", "3"),
    # clamp, constant, rounding
    Fault("clamp one short", PACK, "@-128.0f@ * scale", "-127.0f"),
    Fault("clamp one long", PACK, ", @127.0f@ * scale}", "128.0f"),
    Fault("no division", PACK, "steps = @fmaf(fmaf(-quotient, scale, bounded), per_scale, quotient)@", "quotient"),
    Fault("rounded down", PACK, "@steps + VectorMath::kRounder@", "floorf(steps) + VectorMath::kRounder"),
    Fault("NaN is the largest code", PACK, "@fminf(fmaxf(y, least), most)@", "fmaxf(fminf(y, most), least)"),
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
    Fault("infinity accepted", FIELDS, 'if (@!fits@) refuse(field, "holds "', "value != value"),
    Fault("axis not kept", FIELDS, "@p.channels() > 1 && p.axis != 1@", "p.channels() > 1 && p.axis > 1"),
    Fault("another output format accepted", PLUGIN, "@out.format == in.format@", "true"),
    Fault("another output type accepted", PLUGIN, "@out.type == type_out(in.type)@", "true"),
    Fault("codes of the input's type", PLUGIN, "out[0] = @type_out(in[0])@;", "in[0]"),
    Fault("the scale is not kept", FIELDS, "if (@p.scale_out > 0@) fields", "false"),
    Fault("any scale accepted", FIELDS, 'if (@!fits@) refuse(field, "is "', "false"),
    Fault("the scale does not reach the kernels", RUNTIME, "run(job_, @parameters_.scale_out@, x", "0.02f"),
    Fault("floats where codes are wanted", RUNTIME, "error = @codes()@ ?", "false"),
    Fault("one timing for codes and floats", PLUGIN, "name_of(kind, @p.scale_out > 0@)", "false"),
    Fault("codes under the name for floats", PLUGIN_H, "name_of(kind_, @codes()@)", "false"),
    Fault("channels not checked", PLUGIN, "@dims.d[along] == channels@ ||", "dims.d[along] >= 1"),
    Fault(
        "constants computed again",
        RUNTIME,
        "if (@filled_@) return",
        "false",
    ),
    Fault("upload not waited for", MEMORY, "end = @cudaStreamSynchronize(own)@", "cudaSuccess"),
    Fault("enqueue after a refusal", RUNTIME, "@prepared_ = false;@\n  if (!in", ""),
]
