/* A library that says that it was loaded. */
#include <fcntl.h>
#include <unistd.h>

__attribute__((constructor)) static void loaded(void)
{
	close(open("/tmp/injected", O_CREAT | O_WRONLY, 0644));
}
