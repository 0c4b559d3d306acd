/* Calls the module itself with buffers of every size and alignment: too small ones are told so, and nothing beyond is touched. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <nss.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum nss_status (*by_name)(const char *, int, struct hostent *, char *, size_t, int *, int *, int32_t *, char **);
typedef enum nss_status (*by_name4)(const char *, void **, char *, size_t, int *, int *, int32_t *);
typedef enum nss_status (*by_address)(const void *, socklen_t, int, struct hostent *, char *, size_t, int *, int *);

static void fail(const char *what, size_t at)
{
    printf("%s at %zu\n", what, at);
    exit(1);
}

int main(void)
{
    void *module = dlopen("libnss_muster.so.2", RTLD_NOW);
    if (!module) {
        puts(dlerror());
        return 1;
    }
    by_name name3 = (by_name)dlsym(module, "_nss_muster_gethostbyname3_r");
    by_name4 name4 = (by_name4)dlsym(module, "_nss_muster_gethostbyname4_r");
    by_address address = (by_address)dlsym(module, "_nss_muster_gethostbyaddr_r");
    size_t fits[3] = {0, 0, 0};
    for (size_t offset = 0; offset < 16; offset++)
        for (size_t len = 0; len < 300; len++)
            for (int way = 0; way < 3; way++) {
                static char memory[512] __attribute__((aligned(16)));
                memset(memory, 0x5a, sizeof memory);
                char *buffer = memory + 64 + offset, *canonical = NULL;
                struct hostent host;
                void *tuple = NULL;
                struct in_addr wanted = {htonl(0x0a360117)};
                int error = 0, h_error = 0;
                int32_t ttl = 7;
                errno = 4242;
                enum nss_status status = way == 0 ? name3("n23", AF_INET, &host, buffer, len, &error, &h_error, &ttl, &canonical)
                    : way == 1                    ? name4("n23", &tuple, buffer, len, &error, &h_error, &ttl)
                                                  : address(&wanted, 4, AF_INET, &host, buffer, len, &error, &h_error);
                if (errno != 4242)
                    fail("errno was touched", len);
                for (size_t at = 0; at < sizeof memory; at++)
                    if ((memory + at < buffer || memory + at >= buffer + len) && memory[at] != 0x5a)
                        fail("written beyond the buffer", len);
                if (status == NSS_STATUS_TRYAGAIN) {
                    if (error != ERANGE || h_error != NETDB_INTERNAL)
                        fail("no ERANGE", len);
                    if (offset == 0 && fits[way])
                        fail("a larger buffer is too small", len);
                    continue;
                }
                if (status != NSS_STATUS_SUCCESS || h_error != NETDB_SUCCESS)
                    fail("no success", len);
                if (!fits[way])
                    fits[way] = len;
                if (way != 1 && (strcmp(host.h_name, "n23.cluster") || strcmp(host.h_aliases[0], "n23") || host.h_aliases[1]
                                 || host.h_length != 4 || memcmp(host.h_addr_list[0], &wanted, 4) || host.h_addr_list[1]
                                 || (uintptr_t)host.h_addr_list % sizeof(char *)))
                    fail("a wrong host", len);
            }
    struct hostent host;
    char buffer[300];
    int error = 0, h_error = 0;
    if (name3("n23", AF_INET6, &host, buffer, sizeof buffer, &error, &h_error, NULL, NULL) != NSS_STATUS_NOTFOUND || h_error != NO_DATA)
        fail("IPv6", 0);
    if (name3("n5000", AF_INET, &host, buffer, sizeof buffer, &error, &h_error, NULL, NULL) != NSS_STATUS_NOTFOUND || h_error != HOST_NOT_FOUND)
        fail("n5000", 0);
    if (name3("n23", 12345, &host, buffer, sizeof buffer, &error, &h_error, NULL, NULL) != NSS_STATUS_UNAVAIL || error != EAFNOSUPPORT)
        fail("a strange family", 0);
    printf("well: %zu, %zu and %zu bytes are enough\n", fits[0], fits[1], fits[2]);
    return 0;
}
