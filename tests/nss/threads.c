/* Looks names and addresses up in many threads at once, as programs do. Says what was wrong, and ends with 1. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int rounds;

static void *look(void *argument)
{
    unsigned seed = (unsigned)(size_t)argument;
    for (int round = 0; round < rounds; round++) {
        unsigned number = rand_r(&seed) % 1024;
        char name[32], expected[32], found[NI_MAXHOST], full[32];
        snprintf(name, sizeof name, round % 2 ? "n%u" : "node%u.cluster", number);
        snprintf(expected, sizeof expected, "10.54.%u.%u", 1 + number / 256, number % 256);
        snprintf(full, sizeof full, "n%u.cluster", number);
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_CANONNAME}, *list;
        int error = getaddrinfo(name, "22", &hints, &list);
        if (error) {
            printf("%s: %s\n", name, gai_strerror(error));
            exit(1);
        }
        inet_ntop(AF_INET, &((struct sockaddr_in *)list->ai_addr)->sin_addr, found, sizeof found);
        if (strcmp(found, expected) || list->ai_next || strcmp(list->ai_canonname, full)) {
            printf("%s is %s, %s\n", name, found, list->ai_canonname);
            exit(1);
        }
        error = getnameinfo(list->ai_addr, list->ai_addrlen, found, sizeof found, NULL, 0, NI_NAMEREQD);
        if (error || strcmp(found, full)) {
            printf("%s is %s\n", expected, error ? gai_strerror(error) : found);
            exit(1);
        }
        freeaddrinfo(list);
    }
    return NULL;
}

int main(int count, char **arguments)
{
    pthread_t threads[8];
    rounds = count > 1 ? atoi(arguments[1]) : 1000;
    for (size_t n = 0; n < 8; n++)
        pthread_create(&threads[n], NULL, look, (void *)(n + 1));
    for (size_t n = 0; n < 8; n++)
        pthread_join(threads[n], NULL);
    puts("well");
    return 0;
}
