/* operator new and delete of the whole process, libraries included: malloc and free, within the
 * calling thread's allowance. Any thread.
 *
 * A thread with an allowance keeps small blocks that it gives back, by their size: a statement
 * takes and gives some 700, and the next one takes the same again. malloc's own cache has room for
 * seven of each size, and past that its locks and lists took a sixth of a short statement's time.
 * Work that takes much keeps none: they would hold the pages around them, which are to go back.
 *
 * The other forms that do not ask for an alignment (arrays, nothrow, sized) come here by the
 * standard's own definitions of them; those that do, which nobody uses for much, stay as they are.
 */
#include "ext/allowance.h"

#include <cstdint>
#include <cstdlib>
#include <malloc.h>
#include <new>

namespace
{

/* Sizes of blocks as malloc gives them: 24 bytes, and from there in steps of 16. */
constexpr std::size_t smallest = 24, step = 16, sizes = 64;
constexpr std::size_t spare_bytes_max = 256u << 10; /* of a thread: what a short statement takes */
constexpr int64_t much = 4 << 20;                   /* to be made by malloc for one */

struct spare {
    spare *next;
};

/* A thread's own; freed when it ends. */
struct spares {
    spare *lists[sizes];
    std::size_t bytes;
    enum { unused, used, over } state;
};

spares &mine()
{
    static thread_local spares spares;
    return spares;
}

void free_spares(spares &spares)
{
    for (spare *&list : spares.lists) {
        while (list != nullptr) {
            spare *first = list;
            list = first->next;
            std::free(first);
        }
    }
    spares.bytes = 0;
}

struct thread_end {
    ~thread_end()
    {
        free_spares(mine());
        mine().state = spares::over;
    }
};

/* Of the list whose blocks are large enough for `bytes`. */
std::size_t list_for(std::size_t bytes)
{
    return bytes <= smallest ? 0 : (bytes - smallest + step - 1) / step;
}

/* A block within the allowance. nullptr: that or the memory is used up. */
void *take_block(struct lh_allowance *allowance, std::size_t bytes)
{
    std::size_t number = list_for(bytes);
    spares &spares = mine();
    if (number < sizes && spares.lists[number] != nullptr && allowance->taken < allowance->max) {
        spare *found = spares.lists[number];
        allowance->taken += smallest + number * step;
        spares.lists[number] = found->next;
        spares.bytes -= smallest + number * step;
        return found;
    }
    void *memory = std::malloc(bytes);
    if (memory != nullptr && !lh_allowance_take(allowance, malloc_usable_size(memory))) {
        std::free(memory);
        memory = nullptr;
    }
    if (allowance->made > much && spares.bytes > 0)
        free_spares(spares);
    return memory;
}

/* False: it is too large, or there are enough. */
bool keep_spare(void *memory, std::size_t bytes)
{
    std::size_t number = (bytes - smallest) / step;
    spares &spares = mine();
    if (bytes < smallest || number >= sizes || spares.bytes + bytes > spare_bytes_max ||
        spares.state == spares::over)
        return false;
    if (spares.state == spares::unused) {
        static thread_local thread_end end;
        spares.state = spares::used;
    }
    spare *kept = new (memory) spare;
    kept->next = spares.lists[number];
    spares.lists[number] = kept;
    spares.bytes += smallest + number * step;
    return true;
}

} // namespace

void *operator new(std::size_t bytes)
{
    struct lh_allowance *allowance = lh_allowance_mine();
    if (bytes == 0)
        bytes = 1;
    void *memory = allowance->max != 0 ? take_block(allowance, bytes) : std::malloc(bytes);
    if (memory == nullptr)
        throw std::bad_alloc();
    return memory;
}

void operator delete(void *memory) noexcept
{
    struct lh_allowance *allowance = lh_allowance_mine();
    if (memory != nullptr && allowance->max != 0) {
        std::size_t bytes = malloc_usable_size(memory);
        allowance->taken -= bytes;
        if (allowance->made <= much && keep_spare(memory, bytes))
            return;
    }
    std::free(memory);
}

void operator delete(void *memory, std::size_t) noexcept
{
    operator delete(memory);
}
