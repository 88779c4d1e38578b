/* Prints the versions of the libraries that it is linked with. */
#include <bzlib.h>
#include <ffi.h>
#include <lua.h>
#include <stdio.h>
#include <zlib.h>

int main(void)
{
	ffi_cif cif;
	ffi_type *args[] = {&ffi_type_sint};

	if (ffi_prep_cif(&cif, FFI_DEFAULT_ABI, 1, &ffi_type_void, args) != FFI_OK)
		return 1;
	printf("zlib %s\nbzip2 %s\n%s\nlibffi works\n", zlibVersion(), BZ2_bzlibVersion(), LUA_RELEASE);
	return 0;
}
