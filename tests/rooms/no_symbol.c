/* A shared object that is no room type. */
int something_else(void);

int something_else(void)
{
    return 0;
}
