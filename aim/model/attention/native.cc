// Attention of windows of unequal length laid end to end, forward and backward, as XLA FFI handlers for the CPU.
//
// Both passes go over blocks of scores that stay in cache, so no [queries, keys] array exists. Scores are held
// transposed, keys down and queries across the vector lanes: row maxima and sums are then plain vector operations, and
// one product kernel serves every matrix product. The backward pass recomputes the probabilities from the saved
// log-sum-exp and forms them, and the score gradients, in the registers that hold the product.
//
// Arithmetic is float32. bfloat16 inputs multiply in bfloat16 with float32 sums where the CPU has AVX512_BF16, in its
// matrix registers if it has AMX too, and are converted to float32 elsewhere. A "word" below is one operand of a
// product: a float, or two bfloat16 that are neighbours along the summed dimension. Every product has words of one row
// after another on its left, as `lines` has them, and on its right vectors of words that belong to a column each.
//
// Results do not depend on the number of threads: every sum has a fixed order, and threads share whole tasks only.

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

#define INLINE inline __attribute__((always_inline))

// -------------------------------------------------------------------------------------------------- vectors

// kWide vectors side by side and tile_rows of them stacked fill the registers of the machine.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
#define LANES_512 1
constexpr int kLanes = 16, kWide = 4;
constexpr int tile_rows(int wide) { return wide == 4 ? 6 : wide == 2 ? 12 : 8; }
#elif defined(__AVX__)
constexpr int kLanes = 8, kWide = 2;
constexpr int tile_rows(int wide) { return wide == 2 ? 6 : 8; }
#elif defined(__aarch64__)
constexpr int kLanes = 4, kWide = 4;
constexpr int tile_rows(int wide) { return wide == 4 ? 6 : wide == 2 ? 12 : 8; }
#else
constexpr int kLanes = 4, kWide = 2;
constexpr int tile_rows(int wide) { return wide == 2 ? 6 : 8; }
#endif

typedef float Vec __attribute__((vector_size(4 * kLanes), may_alias));
typedef int32_t IntVec __attribute__((vector_size(4 * kLanes), may_alias));

INLINE Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
INLINE void store(float* p, Vec x) { *reinterpret_cast<Vec*>(p) = x; }
INLINE Vec load_unaligned(const float* p) {
  Vec x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
INLINE Vec splat(float x) { return x - Vec{}; }

// b where either is NaN.
INLINE Vec maximum(Vec a, Vec b) {
#if LANES_512
  return _mm512_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

// 2^x for x <= 0 within 1.5e-7 of its value, or 3e-6 where bfloat16 rounds it anyway. NaN stays NaN.
template <bool kExact>
INLINE Vec exp2(Vec x) {
#if LANES_512
  const Vec f = _mm512_reduce_ps(x, 0x09);  // x - floor(x); 0 of an infinity
#else
  x = x < -125.f ? splat(-125.f) : x;
  const Vec magic = splat(12582912.f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec t = (x - 0.5f) + magic;
  const Vec f = x - (t - magic);
#endif
  // Least relative error on [0, 1].
  Vec p;
  if constexpr (kExact) {
    p = f * 0.00187757669f + 0.00898934063f;
    p = p * f + 0.0558263175f;
    p = p * f + 0.240153611f;
    p = p * f + 0.693153083f;
    p = p * f + 0.99999994f;
  } else {
    p = f * 0.0135341678f + 0.0520114601f;
    p = p * f + 0.241442755f;
    p = p * f + 0.693003833f;
    p = p * f + 1.00000262f;
  }
#if LANES_512
  return _mm512_scalef_ps(p, x);
#else
  return p * (Vec)(((IntVec)t << 23) + 0x3f800000);
#endif
}

// a0 b0 a1 b1 ... of the lower halves, or of the upper ones.
template <bool kUpper, int... i>
INLINE Vec interleave(Vec a, Vec b, std::integer_sequence<int, i...>) {
  constexpr int from = kUpper ? kLanes / 2 : 0;
#if defined(__clang__)
  return __builtin_shufflevector(a, b, ((i % 2) * kLanes + from + i / 2)...);
#else
  return __builtin_shuffle(a, b, IntVec{((i % 2) * kLanes + from + i / 2)...});
#endif
}

// to[column][row] = from[row][column] of kLanes rows and columns: log2(kLanes) perfect shuffles.
INLINE void transpose_tile(float* to, long to_stride, const float* from, long from_stride) {
  constexpr auto lanes = std::make_integer_sequence<int, kLanes>{};
  Vec x[kLanes], y[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) x[i] = load(from + i * from_stride);
#pragma GCC unroll 4
  for (int step = 1; step < kLanes; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      y[2 * i] = interleave<false>(x[i], x[i + kLanes / 2], lanes);
      y[2 * i + 1] = interleave<true>(x[i], x[i + kLanes / 2], lanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) x[i] = y[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) store(to + i * to_stride, x[i]);
}

// -------------------------------------------------------------------------------------------------- operands

constexpr long round_up(long n, long m) { return (n + m - 1) / m * m; }

struct Bfloat16 {
  uint16_t bits;
};

INLINE float to_float(float x) { return x; }
INLINE float to_float(Bfloat16 x) {
  const uint32_t bits = uint32_t{x.bits} << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}
INLINE void assign(float& to, float x) { to = x; }
INLINE void assign(Bfloat16& to, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
  to.bits = x == x ? rounded : (bits >> 16) | 0x40;
}

template <class In>
void write_row(In* to, const float* from, float scale, long d) {
  for (long j = 0; j < d; ++j) assign(to[j], from[j] * scale);
}

template <class In>
float dot(const In* a, const In* b, long d) {
  float sums[kLanes] = {}, sum = 0;
  long j = 0;
  for (; j + kLanes <= d; j += kLanes)
    for (int i = 0; i < kLanes; ++i) sums[i] += to_float(a[j + i]) * to_float(b[j + i]);
  for (; j < d; ++j) sum += to_float(a[j]) * to_float(b[j]);
  for (float s : sums) sum += s;
  return sum;
}

// Three kinds of arithmetic. `lines` is [row][word along d]; `stacked` is [row / kPair][column] words of rows, the
// right-hand operand of a product that sums over rows. Both are zero-padded to whole vectors and to padded_rows. Products
// sum over multiples of kDepth words.
struct Float32 {
  static constexpr int kPair = 1, kDepth = 1;
  static constexpr bool kExact = true, kMatrix = false;
  struct Unit {};

  INLINE static Vec multiply_add(Vec sum, float a, Vec b) { return sum + splat(a) * b; }

  template <class In>
  static void lines(float* to, long width, const In* from, long stride, long rows, long padded_rows, long d) {
    for (long r = 0; r < rows; ++r, to += width, from += stride) {
      for (long j = 0; j < d; ++j) to[j] = to_float(from[j]);
      std::fill(to + d, to + width, 0.f);
    }
    std::fill(to, to + (padded_rows - rows) * width, 0.f);
  }

  template <class In>
  static void stacked(float* to, long width, const In* from, long stride, long rows, long padded_rows, long d) {
    lines(to, width, from, stride, rows, padded_rows, d);
  }

  // Rows of register tile [kRows, kCols] to rows of scores.
  template <int kRows, int kCols>
  INLINE static void store_lines(float* to, long width, const Vec (&x)[kRows][kCols]) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int c = 0; c < kCols; ++c) store(to + r * width + c * kLanes, x[r][c]);
  }

  // The same array also serves as the stacked operand.
  template <int kRows, int kCols>
  INLINE static void store_stacked(float*, long, const Vec (&)[kRows][kCols]) {}
  static const float* stacked_of(const float* lines, const float*) { return lines; }

  INLINE static void store_pair(float* to, long width, Vec a, Vec b) {
    store(to, a);
    store(to + width, b);
  }
  INLINE static void store_last(float* to, Vec a) { store(to, a); }
};

#if LANES_512 && defined(__AVX512BF16__)
#define PAIRS 1
struct Pairs {
  static constexpr int kPair = 2, kDepth = 1;
  static constexpr bool kExact = false, kMatrix = false;
  struct Unit {};

  INLINE static Vec multiply_add(Vec sum, float a, Vec b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_ps(a), (__m512bh)b);
  }

  static void lines(float* to, long width, const Bfloat16* from, long stride, long rows, long padded_rows, long d) {
    char* bytes = reinterpret_cast<char*>(to);
    for (long r = 0; r < rows; ++r, bytes += 4 * width, from += stride) {
      std::memcpy(bytes, from, 2 * d);
      std::memset(bytes + 2 * d, 0, 4 * width - 2 * d);
    }
    std::memset(bytes, 0, (padded_rows - rows) * 4 * width);
  }

  static void stacked(float* to, long width, const Bfloat16* from, long stride, long rows, long padded_rows, long d) {
    std::fill(to + (rows + 1) / 2 * width, to + (padded_rows + 1) / 2 * width, 0.f);
    for (long r = 0; r < rows; r += 2, to += width, from += 2 * stride) {
      const bool both = r + 1 < rows;
      for (long j = 0; j < width; j += kLanes) {
        const long left = d - j;
        const __mmask16 mask = left >= kLanes ? 0xffff : (1 << left) - 1;
        const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from + j));
        const __m512i high =
            _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(both ? mask : 0, both ? from + stride + j : from));
        store(to + j, (Vec)_mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
      }
    }
  }

  template <int kRows, int kCols>
  INLINE static void store_lines(float* to, long width, const Vec (&x)[kRows][kCols]) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c + 1 < kCols; c += 2)
        _mm512_storeu_si512(to + r * width + c * kLanes / 2, (__m512i)_mm512_cvtne2ps_pbh(x[r][c + 1], x[r][c]));
      if constexpr (kCols % 2)
        _mm256_store_si256(reinterpret_cast<__m256i*>(to + r * width + (kCols - 1) * kLanes / 2),
                           (__m256i)_mm512_cvtneps_pbh(x[r][kCols - 1]));
    }
  }

  template <int kRows, int kCols>
  INLINE static void store_stacked(float* to, long width, const Vec (&x)[kRows][kCols]) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r += 2)
#pragma GCC unroll 4
      for (int c = 0; c < kCols; ++c)
        store_pair(to + r / 2 * width + c * kLanes, width, x[r][c], r + 1 < kRows ? x[r + 1][c] : Vec{});
  }
  static const float* stacked_of(const float*, const float* stacked) { return stacked; }

  INLINE static void store_pair(float* to, long, Vec a, Vec b) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    store(to, (Vec)_mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(b, a)));
  }
  INLINE static void store_last(float* to, Vec a) { store_pair(to, 0, a, Vec{}); }
};
#endif

#if PAIRS && defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__linux__)
#define MATRIX_UNIT 1
// The words of Pairs, multiplied by AMX in tiles of 16 rows of 16 words: registers 0 to 3 sum two tiles by two, 4 and 5
// hold the left-hand ones, 6 and 7 the right-hand ones. Arrays have room for whole tiles.
struct MatrixPairs : Pairs {
  static constexpr int kDepth = 16;
  static constexpr bool kMatrix = true;

  // Whether Linux lets this process use the tile registers, which it must request once.
  static bool available() {
    static const bool granted = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0;
    return granted;
  }

  // Sets up this thread's tile registers, and frees them, as the system saves and restores them while they are in use.
  struct Unit {
    Unit() {
      alignas(64) static constexpr uint8_t config[64] = {
          1,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,   // the only palette
          64, 0,  64, 0,  64, 0,  64, 0,  64, 0,  64, 0,  64, 0,  64, 0,   // bytes per row
          0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,   // of registers that do not exist
          16, 16, 16, 16, 16, 16, 16, 16, 0,  0,  0,  0,  0,  0,  0,  0};  // rows
      _tile_loadconfig(config);
    }
    ~Unit() { _tile_release(); }
  };

  // to = a b, or to + a b if `add`, of [rows, vectors].
  static void multiply(float* to, long to_width, const float* a, long a_width, const float* b, long b_width, long rows,
                       long vectors, long words, bool add) {
    // GCC does not know that loading a tile reads memory.
    asm volatile("" ::: "memory");
    for (long r = 0; r < rows; r += 32)
      for (long c = 0; c < vectors; c += 2) {
        float* const out = to + r * to_width + c * 16;
        const auto part = rows - r > 16 ? (vectors - c > 1 ? &MatrixPairs::part<2, 2> : &MatrixPairs::part<2, 1>)
                                        : (vectors - c > 1 ? &MatrixPairs::part<1, 2> : &MatrixPairs::part<1, 1>);
        part(out, to_width, a + r * a_width, a_width, b + c * 16, b_width, words, add);
      }
  }

 private:
  template <int kRows, int kCols>
  static void part(float* to, long to_width, const float* a, long a_width, const float* b, long b_width, long words,
                   bool add) {
    float* const below = to + 16 * to_width;
    if (add) {
      _tile_loadd(0, to, 4 * to_width);
      if constexpr (kCols > 1) _tile_loadd(1, to + 16, 4 * to_width);
      if constexpr (kRows > 1) _tile_loadd(2, below, 4 * to_width);
      if constexpr (kRows * kCols > 2) _tile_loadd(3, below + 16, 4 * to_width);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (long i = 0; i < words; i += 16, a += 16, b += 16 * b_width) {
      _tile_loadd(4, a, 4 * a_width);
      _tile_loadd(6, b, 4 * b_width);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (kCols > 1) {
        _tile_loadd(7, b + 16, 4 * b_width);
        _tile_dpbf16ps(1, 4, 7);
      }
      if constexpr (kRows > 1) {
        _tile_loadd(5, a + 16 * a_width, 4 * a_width);
        _tile_dpbf16ps(2, 5, 6);
        if constexpr (kCols > 1) _tile_dpbf16ps(3, 5, 7);
      }
    }
    _tile_stored(0, to, 4 * to_width);
    if constexpr (kCols > 1) _tile_stored(1, to + 16, 4 * to_width);
    if constexpr (kRows > 1) _tile_stored(2, below, 4 * to_width);
    if constexpr (kRows * kCols > 2) _tile_stored(3, below + 16, 4 * to_width);
  }
};
#endif

// Transposes words [row][word] to [word along d][row], in whole vectors both ways.
void transpose(float* to, long to_stride, const float* from, long width, long rows) {
  for (long r = 0; r < rows; r += kLanes)
    for (long j = 0; j < width; j += kLanes)
      transpose_tile(to + j * to_stride + r, to_stride, from + r * width + j, width);
}

// -------------------------------------------------------------------------------------------------- products

// sum[r][c] = sum over i < words of a[r * a_width + i] * b[i * b_width + c].
template <class W, int kRows, int kCols>
INLINE void product(Vec (&sum)[kRows][kCols], const float* a, long a_width, const float* b, long b_width, long words) {
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < kCols; ++c) sum[r][c] = Vec{};
  for (long i = 0; i < words; ++i, ++a, b += b_width) {
    Vec x[kCols];
#pragma GCC unroll 4
    for (int c = 0; c < kCols; ++c) x[c] = load(b + c * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int c = 0; c < kCols; ++c) sum[r][c] = W::multiply_add(sum[r][c], a[r * a_width], x[c]);
  }
}

template <int n>
using Const = std::integral_constant<int, n>;

template <int kRows, int kCols>
INLINE void load_rows(Vec (&x)[kRows][kCols], const float* from, long width) {
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < kCols; ++c) x[r][c] = load(from + r * width + c * kLanes);
}

// Calls f(rows, cols, first row, first column) for the register tiles of [rows, vectors]. Only the last row may be odd.
template <int kCols, int kRows = tile_rows(kCols), class F>
INLINE void strip(long rows, long column, F f) {
  long r = 0;
  for (; r + kRows <= rows; r += kRows) f(Const<kRows>{}, Const<kCols>{}, r, column);
  for (; r + 4 <= rows; r += 4) f(Const<4>{}, Const<kCols>{}, r, column);
  if (r + 2 <= rows) {
    f(Const<2>{}, Const<kCols>{}, r, column);
    r += 2;
  }
  if (r < rows) f(Const<1>{}, Const<kCols>{}, r, column);
}

template <class F>
INLINE void tiles(long rows, long vectors, F f) {
  const long strips = (vectors + kWide - 1) / kWide;
  for (long s = 0; s < strips; ++s) {
    const long first = vectors * s / strips, column = first * kLanes;
    switch (vectors * (s + 1) / strips - first) {
      case 1: strip<1>(rows, column, f); break;
      case 2: strip<2>(rows, column, f); break;
#if defined(LANES_512) || defined(__aarch64__)
      case 3: strip<3>(rows, column, f); break;
      case 4: strip<4>(rows, column, f); break;
#endif
    }
  }
}

// The number of words that a product sums over for so many rows.
template <class W>
constexpr long words_of(long rows) {
  return round_up((rows + W::kPair - 1) / W::kPair, W::kDepth);
}

// to = keep * to + a b, of [rows, vectors], with one number to keep per column; to is not read where `first`, and a null
// keep is 1.
template <class W>
void add_product(float* to, long to_width, const float* a, long a_width, const float* b, long b_width, long rows,
                 long vectors, long words, bool first, const float* keep = nullptr) {
#if MATRIX_UNIT
  if constexpr (W::kMatrix) {
    if (!first && keep && std::any_of(keep, keep + vectors * kLanes, [](float x) { return x != 1; }))
      for (long r = 0; r < rows; ++r)
        for (long c = 0; c < vectors * kLanes; c += kLanes)
          store(to + r * to_width + c, load(to + r * to_width + c) * load(keep + c));
    W::multiply(to, to_width, a, a_width, b, b_width, rows, vectors, words, !first);
    return;
  }
#endif
  tiles(rows, vectors, [&](auto n, auto m, long r, long c) {
    Vec sum[n()][m()];
    product<W>(sum, a + r * a_width, a_width, b + c, b_width, words);
    float* out = to + r * to_width + c;
#pragma GCC unroll 16
    for (int i = 0; i < n(); ++i)
#pragma GCC unroll 4
      for (int j = 0; j < m(); ++j) {
        float* p = out + i * to_width + j * kLanes;
        if (first) store(p, sum[i][j]);
        else if (keep) store(p, load(p) * load(keep + c + j * kLanes) + sum[i][j]);
        else store(p, load(p) + sum[i][j]);
      }
  });
}

// -------------------------------------------------------------------------------------------------- tasks

constexpr long kQueries = 64;  // of a block of scores; the probabilities and gradients of a block stay in L1 and L2
constexpr long kKeys = 128;
constexpr long kStrip = 32;  // keys of a block whose scores the matrix unit computes at a time
constexpr long kQueryChunk = 512;  // of a forward task
constexpr long kKeyChunk = 1024;   // of a backward task

// Size of the parts of at most `most` that `count` falls into, about equal and multiples of `unit`.
long part_size(long count, long most, long unit) {
  const long parts = (count + most - 1) / most;
  return round_up((count + parts - 1) / parts, unit);
}

struct Rows {
  long heads, d, stride;  // stride: elements between rows of one head
  float scale() const { return 1 / std::sqrt(static_cast<float>(d)); }
  float scale2() const { return scale() * 1.44269504f; }  // of powers of 2
};

struct Window {
  long q, queries, k, keys;
};

// A part [from, to) of one window and head: queries forward, keys backward.
struct Task {
  Window window;
  long head, from, to, chunk, chunks;
  long group;  // the (window, head), counted over those of several chunks; -1 for one chunk
  double cost;
};

struct Free {
  void operator()(float* p) const { std::free(p); }
};
using Floats = std::unique_ptr<float[], Free>;

Floats allocate(long floats) {
  float* p = static_cast<float*>(std::aligned_alloc(64, round_up(4 * floats, 64)));
  if (!p) throw std::bad_alloc();
  return Floats(p);
}

// This thread's scratch memory, kept between calls, because new pages would cost as much as a small window.
class Scratch {
 public:
  // Arrays with these numbers of floats, valid until the next call.
  template <class... Size>
  std::array<float*, sizeof...(Size)> split(Size... sizes) {
    const long total = (round_up(sizes, 16) + ...);
    if (total > size_) {
      data_ = allocate(total);
      size_ = total;
    }
    float* p = data_.get();
    return {std::exchange(p, p + round_up(sizes, 16))...};
  }

 private:
  Floats data_;
  long size_ = 0;
};
thread_local Scratch scratch;

template <class In, class W>
struct Forward {
  using Words = W;

  Rows rows;
  const In *q, *k, *v;
  In* out;
  float* lse;  // [heads, rows of q], of powers of 2
  long lse_stride;

  void operator()(const Task& task) const {
    const long d = rows.d, width = round_up(d, kLanes), depth = words_of<W>(d), lines = round_up(depth, kLanes);
    const long queries = task.to - task.from, padded = round_up(queries, kQueries);
    constexpr long pairs = kKeys / W::kPair;
    // The sums are [width][query] of one block of queries after another.
    auto [q_columns, sums, best, total, keep, temporary, k_lines, v_stacked, v_columns, scores, probs] =
        scratch.split(padded * lines, padded * width, padded, padded, kQueries, kQueries * std::max(lines, width),
                      kKeys * lines, pairs * width, pairs * width, kKeys * kQueries, pairs * kQueries);
    if (W::kPair == 1) probs = scores;  // in place

    const In* q_rows = q + (task.window.q + task.from) * rows.stride + task.head * d;
    for (long i = 0; i < queries; i += kQueries) {
      W::lines(temporary, lines, q_rows + i * rows.stride, rows.stride, std::min(kQueries, queries - i), kQueries, d);
      transpose(q_columns + i * lines, kQueries, temporary, lines, kQueries);
    }
    std::fill(best, best + padded, std::numeric_limits<float>::lowest());
    std::fill(total, total + padded, 0.f);

    const long step = part_size(task.window.keys, kKeys, 2 * W::kDepth);
    for (long first = 0; first < task.window.keys; first += step) {
      const long keys = std::min(step, task.window.keys - first), words = words_of<W>(keys);
      const long offset = (task.window.k + first) * rows.stride + task.head * d;
      W::lines(k_lines, lines, k + offset, rows.stride, keys, round_up(keys, W::kDepth), d);
      W::stacked(v_stacked, width, v + offset, rows.stride, keys, round_up(words, kLanes) * W::kPair, d);
      transpose(v_columns, pairs, v_stacked, width, round_up(words, kLanes));
      for (long i = 0; i < queries; i += kQueries) {
        const long here = std::min(kQueries, queries - i), vectors = (here + kLanes - 1) / kLanes;
        alignas(64) float before[kQueries];
        std::copy(best + i, best + i + kQueries, before);
        score(scores, best + i, k_lines, q_columns + i * lines, lines, depth, keys, vectors);
        weigh(probs, keep, total + i, scores, best + i, before, keys, vectors);
        add_product<W>(sums + i * width, kQueries, v_columns, pairs, probs, kQueries, d, vectors, words, first == 0,
                       keep);
      }
    }

    In* out_rows = out + (task.window.q + task.from) * rows.stride + task.head * d;
    float* lse_row = lse + task.head * lse_stride + task.window.q + task.from;
    for (long i = 0; i < queries; ++i) {
      if (i % kQueries == 0) transpose(temporary, width, sums + i * width, kQueries, width);
      write_row(out_rows + i * rows.stride, temporary + i % kQueries * width, 1 / total[i], d);
      lse_row[i] = best[i] * rows.scale2() + std::log2(total[i]);
    }
  }

  // Scores [keys][queries] of one block, and the maximum of each query with those before.
  static void score(float* scores, float* best, const float* k_lines, const float* q_columns, long lines, long depth,
                    long keys, long vectors) {
    if constexpr (W::kMatrix)
      add_product<W>(scores, kQueries, k_lines, lines, q_columns, kQueries, keys, vectors, depth, true);
    tiles(keys, vectors, [&](auto n, auto m, long r, long c) {
      Vec s[n()][m()];
      float* const to = scores + r * kQueries + c;
      if constexpr (W::kMatrix) load_rows(s, to, kQueries);
      else product<W>(s, k_lines + r * lines, lines, q_columns + c, kQueries, depth);
#pragma GCC unroll 4
      for (int j = 0; j < m(); ++j) {
        Vec most = load(best + c + j * kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < n(); ++i) {
          if constexpr (!W::kMatrix) store(to + i * kQueries + j * kLanes, s[i][j]);
          most = maximum(s[i][j], most);
        }
        store(best + c + j * kLanes, most);
      }
    });
  }

  // Probabilities before division by the total, which is updated; earlier blocks are multiplied by `keep`.
  void weigh(float* probs, float* keep, float* total, const float* scores, const float* best, const float* before,
             long keys, long vectors) const {
    const Vec scale = splat(rows.scale2());
    for (long c = 0; c < vectors * kLanes; c += kLanes) {
      const Vec shift = load(best + c) * scale;
      const Vec kept = exp2<true>((load(before + c) - load(best + c)) * scale);
      Vec sum = load(total + c) * kept, sum2 = Vec{};
      const float* from = scores + c;
      float* to = probs + c;
      long r = 0;
      for (; r + 2 <= keys; r += 2, from += 2 * kQueries, to += 2 / W::kPair * kQueries) {
        const Vec a = exp2<W::kExact>(load(from) * scale - shift);
        const Vec b = exp2<W::kExact>(load(from + kQueries) * scale - shift);
        sum += a;
        sum2 += b;
        W::store_pair(to, kQueries, a, b);
      }
      if (r < keys) {
        const Vec a = exp2<W::kExact>(load(from) * scale - shift);
        sum += a;
        W::store_last(to, a);
      }
      for (r = (keys + W::kPair - 1) / W::kPair; r < words_of<W>(keys); ++r) store(probs + r * kQueries + c, Vec{});
      store(total + c, sum + sum2);
      store(keep + c, kept);
    }
  }
};

// State shared by the chunks of a group.
struct Part {
  Floats dq;  // [chunk][query][width]
  std::atomic<long> left{0};
};

template <class In, class W>
struct Backward {
  using Words = W;

  Rows rows;
  const In *q, *k, *v, *out, *g;  // g: the cotangent of out
  const float* lse;
  long lse_stride;
  In *dq, *dk, *dv;
  std::vector<Part>* parts;  // of each group

  void operator()(const Task& task) const {
    const Window& w = task.window;
    const long d = rows.d, width = round_up(d, kLanes), depth = words_of<W>(d), lines = round_up(depth, kLanes);
    const long padded = round_up(w.queries, kQueries), size = padded * width;
    constexpr long line = kQueries / W::kPair, pairs = kKeys / W::kPair;
    // The sums for dq are [width][query] of one block of queries after another.
    auto [q_columns, g_columns, q_stacked, g_stacked, lse2, delta, dq_sums, temporary, k_lines, v_lines, k_stacked,
          k_columns, dk_sums, dv_sums, probs, grads, grads_stacked] =
        scratch.split(padded * lines, padded * lines, size / W::kPair, size / W::kPair, padded, padded,
                      task.chunks > 1 ? 0 : size, kQueries * std::max(lines, width), kKeys * lines, kKeys * lines,
                      pairs * width, pairs * width, kKeys * width, kKeys * width, kKeys * line, kKeys * line,
                      pairs * kQueries);
    if (task.chunks > 1) dq_sums = (*parts)[task.group].dq.get() + task.chunk * size;

    const long q_offset = w.q * rows.stride + task.head * d;
    for (long i = 0; i < w.queries; i += kQueries) {
      const long here = std::min(kQueries, w.queries - i), offset = q_offset + i * rows.stride;
      W::lines(temporary, lines, q + offset, rows.stride, here, kQueries, d);
      transpose(q_columns + i * lines, kQueries, temporary, lines, kQueries);
      W::lines(temporary, lines, g + offset, rows.stride, here, kQueries, d);
      transpose(g_columns + i * lines, kQueries, temporary, lines, kQueries);
      W::stacked(q_stacked + i / W::kPair * width, width, q + offset, rows.stride, here, kQueries, d);
      W::stacked(g_stacked + i / W::kPair * width, width, g + offset, rows.stride, here, kQueries, d);
    }
    for (long i = 0; i < w.queries; ++i)
      delta[i] = dot(g + q_offset + i * rows.stride, out + q_offset + i * rows.stride, d);
    std::copy_n(lse + task.head * lse_stride + w.q, w.queries, lse2);
    std::fill(delta + w.queries, delta + padded, 0.f);
    std::fill(lse2 + w.queries, lse2 + padded, 0.f);

    const long step = part_size(task.to - task.from, kKeys, 2 * W::kDepth);
    for (long first = task.from; first < task.to; first += step) {
      const long keys = std::min(step, task.to - first), offset = (w.k + first) * rows.stride + task.head * d;
      const long words = words_of<W>(keys), padded_keys = round_up(keys, W::kDepth);
      W::lines(k_lines, lines, k + offset, rows.stride, keys, padded_keys, d);
      W::lines(v_lines, lines, v + offset, rows.stride, keys, padded_keys, d);
      W::stacked(k_stacked, width, k + offset, rows.stride, keys, round_up(words, kLanes) * W::kPair, d);
      transpose(k_columns, pairs, k_stacked, width, round_up(words, kLanes));
      for (long i = 0; i < w.queries; i += kQueries) {
        const long here = std::min(kQueries, w.queries - i), summed = words_of<W>(here);
        const float *q_words = q_stacked + i / W::kPair * width, *g_words = g_stacked + i / W::kPair * width;
        differentiate(probs, grads, grads_stacked, k_lines, v_lines, q_columns + i * lines, g_columns + i * lines,
                      lse2 + i, delta + i, lines, depth, keys, (here + kLanes - 1) / kLanes);
        add_product<W>(dv_sums, width, probs, line, g_words, width, keys, width / kLanes, summed, i == 0);
        add_product<W>(dk_sums, width, grads, line, q_words, width, keys, width / kLanes, summed, i == 0);
        add_product<W>(dq_sums + i * width, kQueries, k_columns, pairs, W::stacked_of(grads, grads_stacked), kQueries, d,
                       (here + kLanes - 1) / kLanes, words, first == task.from);
      }
      for (long i = 0; i < keys; ++i) {
        write_row(dk + offset + i * rows.stride, dk_sums + i * width, rows.scale(), d);
        write_row(dv + offset + i * rows.stride, dv_sums + i * width, 1.f, d);
      }
    }

    if (task.chunks > 1) {
      if (--(*parts)[task.group].left > 0) return;
      dq_sums = (*parts)[task.group].dq.get();  // all chunks are done; sums them, always in this order
      for (long chunk = 1; chunk < task.chunks; ++chunk)
        for (long i = 0; i < size; i += kLanes)
          store(dq_sums + i, load(dq_sums + i) + load(dq_sums + chunk * size + i));
    }
    for (long i = 0; i < w.queries; ++i) {
      if (i % kQueries == 0) transpose(temporary, width, dq_sums + i * width, kQueries, width);
      write_row(dq + q_offset + i * rows.stride, temporary + i % kQueries * width, rows.scale(), d);
    }
  }

  // Probabilities and score gradients [keys][queries] of one block.
  void differentiate(float* probs, float* grads, float* grads_stacked, const float* k_lines, const float* v_lines,
                     const float* q_columns, const float* g_columns, const float* lse2, const float* delta, long lines,
                     long depth, long keys, long vectors) const {
    constexpr long line = kQueries / W::kPair;
    const Vec scale = splat(rows.scale2());
    // `ready` is null, or has the two products.
    const auto part = [&](auto n, auto m, long r, long c, const float* ready) {
      Vec p[n()][m()], s[n()][m()];
      if constexpr (W::kMatrix) load_rows(p, ready, kQueries);
      else product<W>(p, k_lines + r * lines, lines, q_columns + c, kQueries, depth);
#pragma GCC unroll 4
      for (int j = 0; j < m(); ++j) {
        const Vec shift = load(lse2 + c + j * kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < n(); ++i) p[i][j] = exp2<W::kExact>(p[i][j] * scale - shift);
      }
      W::store_lines(probs + r * line + c / W::kPair, line, p);
      if constexpr (W::kMatrix) load_rows(s, ready + kStrip * kQueries, kQueries);
      else product<W>(s, v_lines + r * lines, lines, g_columns + c, kQueries, depth);
#pragma GCC unroll 4
      for (int j = 0; j < m(); ++j) {
        const Vec shift = load(delta + c + j * kLanes);
#pragma GCC unroll 16
        for (int i = 0; i < n(); ++i) s[i][j] = p[i][j] * (s[i][j] - shift);
      }
      W::store_lines(grads + r * line + c / W::kPair, line, s);
      W::store_stacked(grads_stacked + r / W::kPair * kQueries + c, kQueries, s);
    };
    if constexpr (!W::kMatrix) {
      tiles(keys, vectors, [&](auto n, auto m, long r, long c) { part(n, m, r, c, nullptr); });
    } else {
      alignas(64) float ready[2 * kStrip * kQueries];
      vectors = round_up(vectors, 2);
      for (long from = 0; from < keys; from += kStrip) {
        const long here = std::min(kStrip, keys - from);
        add_product<W>(ready, kQueries, k_lines + from * lines, lines, q_columns, kQueries, here, vectors, depth, true);
        add_product<W>(ready + kStrip * kQueries, kQueries, v_lines + from * lines, lines, g_columns, kQueries, here,
                       vectors, depth, true);
        for (long column = 0; column < vectors * kLanes; column += 2 * kLanes)
          strip<2, 4>(here, column, [&](auto n, auto m, long r, long c) {
            part(n, m, from + r, c, ready + r * kQueries + c);
          });
      }
      for (long r = (keys + 1) / 2; r < words_of<W>(keys); ++r)
        std::fill_n(grads_stacked + r * kQueries, vectors * kLanes, 0.f);
    }
  }
};

// -------------------------------------------------------------------------------------------------- threads

// Treats subnormal numbers as 0 on every thread, as XLA's pool does, so that results do not depend on the thread.
class FlushSubnormals {
#if defined(__x86_64__)
 public:
  FlushSubnormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040); }
  ~FlushSubnormals() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
 public:
  FlushSubnormals() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" : : "r"(saved_ | (1u << 24)));
  }
  ~FlushSubnormals() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  uint64_t saved_;
#endif
};

// Free threads take tasks in order. The caller works too, so all tasks get done even if no other thread ever starts; it
// then waits only for running tasks. Helpers that start late find no task left and touch nothing else.
template <class Work>
struct Shared {
  explicit Shared(Work work) : work(work) {}

  const Work work;
  std::vector<Task> tasks;
  std::atomic<size_t> next{0}, done{0};
  std::mutex mutex;
  std::condition_variable all_done;

  void help() {
    FlushSubnormals flush;
    [[maybe_unused]] typename Work::Words::Unit unit;
    for (size_t i; (i = next++) < tasks.size();) {
      work(tasks[i]);
      if (++done == tasks.size()) {
        std::lock_guard<std::mutex> lock(mutex);
        all_done.notify_all();
      }
    }
  }
};

template <class Work>
void run(ffi::ThreadPool& pool, Work work, std::vector<Task> tasks) {
  double flops = 0;
  for (const Task& task : tasks) flops += 4 * work.rows.d * task.cost;
  auto shared = std::make_shared<Shared<Work>>(work);
  shared->tasks = std::move(tasks);
  const long most = flops < 2e6 ? 1 : pool.num_threads();  // waking a thread costs as much as 2e6 operations
  for (long i = 1; i < std::min<long>(most, shared->tasks.size()); ++i) pool.Schedule([shared] { shared->help(); });
  shared->help();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->all_done.wait(lock, [&] { return shared->done == shared->tasks.size(); });
}

// -------------------------------------------------------------------------------------------------- handlers

using Ints = ffi::Buffer<ffi::S32>;

// Sets rows outside all windows to 0, and checks that windows lie in the array and do not overlap. `start` and `size`
// select queries or keys.
template <class T>
ffi::Error clear_rest(std::vector<Window> windows, long Window::*start, long Window::*size, long rows, long stride,
                      std::vector<T*> arrays) {
  std::sort(windows.begin(), windows.end(), [&](const Window& a, const Window& b) { return a.*start < b.*start; });
  windows.push_back({rows, 0, rows, 0});
  long end = 0;
  for (const Window& w : windows) {
    if (w.*start < end || w.*start + w.*size > rows)
      return ffi::Error::InvalidArgument("varlen_attention: windows overlap or leave the " + std::to_string(rows) +
                                         " rows");
    for (T* array : arrays) std::memset(array + end * stride, 0, (w.*start - end) * stride * sizeof(T));
    end = w.*start + w.*size;
  }
  return ffi::Error::Success();
}

// The windows with both queries and keys; the rows of all others count as outside.
std::vector<Window> windows_of(Ints q_starts, Ints q_lengths, Ints kv_starts, Ints kv_lengths) {
  std::vector<Window> windows;
  for (size_t i = 0; i < q_starts.element_count(); ++i) {
    const Window w{q_starts.typed_data()[i], q_lengths.typed_data()[i], kv_starts.typed_data()[i],
                   kv_lengths.typed_data()[i]};
    if (w.queries > 0 && w.keys > 0) windows.push_back(w);
  }
  return windows;
}

// The tasks, largest first. They depend on the lengths only, not on the number of threads, and so do the sums.
std::vector<Task> tasks_of(const std::vector<Window>& windows, long heads, long Window::*size, long most) {
  std::vector<Task> tasks;
  long groups = 0;
  for (const Window& w : windows) {
    const long step = part_size(w.*size, most, 2), chunks = (w.*size + step - 1) / step;
    for (long head = 0; head < heads; ++head) {
      const long group = chunks > 1 ? groups++ : -1;
      for (long i = 0; i < chunks; ++i) {
        const long from = i * step, to = std::min(w.*size, from + step);
        tasks.push_back({w, head, from, to, i, chunks, group, double(w.queries) * w.keys * (to - from) / (w.*size)});
      }
    }
  }
  std::stable_sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) { return a.cost > b.cost; });
  return tasks;
}

struct Sizes {
  long q_rows, kv_rows;
  Rows rows;
};

Sizes sizes_of(const ffi::AnyBuffer& q, const ffi::AnyBuffer& k) {
  const auto n = q.dimensions();
  return {n[0], k.dimensions()[0], {n[1], n[2], n[1] * n[2]}};
}

template <class In, class W>
ffi::Error forward(ffi::ThreadPool& pool, const ffi::AnyBuffer& q, const ffi::AnyBuffer& k, const ffi::AnyBuffer& v,
                   const std::vector<Window>& windows, ffi::AnyBuffer& out, float* lse) {
  const auto [q_rows, kv_rows, rows] = sizes_of(q, k);
  const auto data = [](const ffi::AnyBuffer& x) { return static_cast<In*>(x.untyped_data()); };
  auto error = clear_rest<In>(windows, &Window::q, &Window::queries, q_rows, rows.stride, {data(out)});
  if (error.success()) error = clear_rest<In>(windows, &Window::k, &Window::keys, kv_rows, rows.stride, {});
  std::vector<float*> heads;
  for (long head = 0; head < rows.heads; ++head) heads.push_back(lse + head * q_rows);
  if (error.success()) error = clear_rest(windows, &Window::q, &Window::queries, q_rows, 1, heads);
  if (error.failure()) return error;
  run(pool, Forward<In, W>{rows, data(q), data(k), data(v), data(out), lse, q_rows},
      tasks_of(windows, rows.heads, &Window::queries, kQueryChunk));
  return ffi::Error::Success();
}

template <class In, class W>
ffi::Error backward(ffi::ThreadPool& pool, const ffi::AnyBuffer& q, const ffi::AnyBuffer& k, const ffi::AnyBuffer& v,
                    const ffi::AnyBuffer& out, const float* lse, const ffi::AnyBuffer& g,
                    const std::vector<Window>& windows, ffi::AnyBuffer& dq, ffi::AnyBuffer& dk, ffi::AnyBuffer& dv) {
  const auto [q_rows, kv_rows, rows] = sizes_of(q, k);
  const auto data = [](const ffi::AnyBuffer& x) { return static_cast<In*>(x.untyped_data()); };
  auto error = clear_rest<In>(windows, &Window::q, &Window::queries, q_rows, rows.stride, {data(dq)});
  if (error.success())
    error = clear_rest<In>(windows, &Window::k, &Window::keys, kv_rows, rows.stride, {data(dk), data(dv)});
  if (error.failure()) return error;

  auto tasks = tasks_of(windows, rows.heads, &Window::keys, kKeyChunk);
  long groups = 0;
  for (const Task& task : tasks) groups = std::max(groups, task.group + 1);
  std::vector<Part> parts(groups);
  for (const Task& task : tasks)
    if (task.group >= 0 && task.chunk == 0) {
      parts[task.group].dq = allocate(task.chunks * round_up(task.window.queries, kQueries) * round_up(rows.d, kLanes));
      parts[task.group].left = task.chunks;
    }
  run(pool,
      Backward<In, W>{rows, data(q), data(k), data(v), data(out), data(g), lse, q_rows, data(dq), data(dk), data(dv),
                   &parts},
      std::move(tasks));
  return ffi::Error::Success();
}

template <class W>
struct Kind {
  using type = W;
};

// pass(element, kind of arithmetic) for these elements on this machine.
template <class Pass>
auto arithmetic(const ffi::AnyBuffer& q, [[maybe_unused]] bool matrix_unit, Pass pass) {
  if (q.element_type() != ffi::BF16) return pass(float{}, Kind<Float32>{});
#if MATRIX_UNIT
  if (matrix_unit && MatrixPairs::available()) return pass(Bfloat16{}, Kind<MatrixPairs>{});
#endif
#if PAIRS
  return pass(Bfloat16{}, Kind<Pairs>{});
#else
  return pass(Bfloat16{}, Kind<Float32>{});
#endif
}

ffi::Error forward_handler(ffi::ThreadPool pool, ffi::AnyBuffer q, ffi::AnyBuffer k, ffi::AnyBuffer v, Ints q_starts,
                           Ints q_lengths, Ints kv_starts, Ints kv_lengths, ffi::Result<ffi::AnyBuffer> out,
                           ffi::Result<ffi::Buffer<ffi::F32>> lse, bool matrix_unit) {
  const auto windows = windows_of(q_starts, q_lengths, kv_starts, kv_lengths);
  const auto pass = arithmetic(q, matrix_unit, [](auto in, auto words) {
    return forward<decltype(in), typename decltype(words)::type>;
  });
  return pass(pool, q, k, v, windows, *out, lse->typed_data());
}

ffi::Error backward_handler(ffi::ThreadPool pool, ffi::AnyBuffer q, ffi::AnyBuffer k, ffi::AnyBuffer v,
                            ffi::AnyBuffer out, ffi::Buffer<ffi::F32> lse, ffi::AnyBuffer g, Ints q_starts,
                            Ints q_lengths, Ints kv_starts, Ints kv_lengths, ffi::Result<ffi::AnyBuffer> dq,
                            ffi::Result<ffi::AnyBuffer> dk, ffi::Result<ffi::AnyBuffer> dv, bool matrix_unit) {
  const auto windows = windows_of(q_starts, q_lengths, kv_starts, kv_lengths);
  const auto pass = arithmetic(q, matrix_unit, [](auto in, auto words) {
    return backward<decltype(in), typename decltype(words)::type>;
  });
  return pass(pool, q, k, v, out, lse.typed_data(), g, windows, *dq, *dk, *dv);
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(varlen_attention_forward, forward_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<Ints>()
                                  .Arg<Ints>()
                                  .Arg<Ints>()
                                  .Arg<Ints>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<bool>("matrix_unit"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(varlen_attention_backward, backward_handler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<Ints>()
                                  .Arg<Ints>()
                                  .Arg<Ints>()
                                  .Arg<Ints>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<bool>("matrix_unit"));
