/* operator new and delete of the whole process, libraries included: malloc and free, within the
 * calling thread's allowance. Any thread.
 *
 * The other forms that do not ask for an alignment (arrays, nothrow, sized) come here by the
 * standard's own definitions of them; those that do, which nobody uses for much, stay as they are.
 */
#include "ext/allowance.h"

#include <cstdlib>
#include <new>

void *operator new(std::size_t bytes)
{
    void *memory = std::malloc(bytes > 0 ? bytes : 1);
    if (memory == nullptr)
        throw std::bad_alloc();
    if (!lh_allowance_take_block(memory)) {
        std::free(memory);
        throw std::bad_alloc();
    }
    return memory;
}

void operator delete(void *memory) noexcept
{
    if (memory != nullptr)
        lh_allowance_give_block(memory);
    std::free(memory);
}

void operator delete(void *memory, std::size_t) noexcept
{
    operator delete(memory);
}
