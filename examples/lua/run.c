/* Runs the Lua program that its argument is. */
#include <stdio.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

int main(int count, char **arguments)
{
    lua_State *state = luaL_newstate();
    int failed;

    luaL_openlibs(state);
    failed = luaL_dostring(state, count > 1 ? arguments[1] : "print(_VERSION)");
    if (failed)
        fprintf(stderr, "%s\n", lua_tostring(state, -1));
    lua_close(state);
    return failed;
}
