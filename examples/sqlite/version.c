/* Asks SQLite for its version, in SQL. */
#include <stdio.h>
#include <sqlite3.h>

int main(void)
{
    sqlite3 *database;
    sqlite3_stmt *statement;
    const char *query = "SELECT sqlite_version()";

    if (sqlite3_open(":memory:", &database) != SQLITE_OK ||
        sqlite3_prepare_v2(database, query, -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW) {
        fprintf(stderr, "%s\n", sqlite3_errmsg(database));
        return 1;
    }
    printf("%s\n", (const char *)sqlite3_column_text(statement, 0));
    sqlite3_finalize(statement);
    sqlite3_close(database);
    return 0;
}
